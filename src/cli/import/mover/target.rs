//! Atalaya's own database, whose server is stopped: where what is moved in goes.

use super::MoveError;
use crate::application::Offline;
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::{AccountId, Decision, Fact, Order, Outcome, Posting};
use crate::storage::moving::{Standing, look_into, outbox_past_history, standing};
use crate::storage::{Connection, OutboxUpdate, StorageError, Ticket, WriteError};
use std::collections::VecDeque;

/// Orders handed in and not yet durable: half of what the writer lets wait, and four of its groups.
const UNDER_WAY: usize = 1_024;

/// Where it goes.
pub(super) enum Target {
    /// Nowhere: it is looked at, if it is there, and nothing is changed.
    Simulation(Option<Connection>),
    /// Into the journal.
    Journal(Box<Journal>),
}

/// The journal, and what is on its way there.
pub(super) struct Journal {
    offline: Offline,
    under_way: VecDeque<(Ticket<Decision>, Option<Posting>)>,
}

impl Target {
    /// Looks at the database, whose server may run.
    ///
    /// # Errors
    /// [`MoveError::Storage`].
    pub(super) fn look(config: &Config) -> Result<Self, MoveError> {
        Ok(Self::Simulation(look_into(&config.database)?))
    }

    /// Opens the database, whose server must be stopped.
    ///
    /// # Errors
    /// [`MoveError::Application`].
    pub(super) fn open(config: &Config, clock: &Clock) -> Result<Self, MoveError> {
        Ok(Self::Journal(Box::new(Journal {
            offline: Offline::open(config, clock)?,
            under_way: VecDeque::with_capacity(UNDER_WAY),
        })))
    }

    /// Where an account stands.
    ///
    /// # Errors
    /// [`MoveError::Storage`].
    pub(super) fn standing(&mut self, id: &AccountId) -> Result<Option<Standing>, MoveError> {
        Ok(match self {
            Self::Simulation(None) => None,
            Self::Simulation(Some(connection)) => standing(connection, id)?,
            Self::Journal(journal) => {
                let readers = &journal.offline.readers;
                let mut connection = readers.get().map_err(StorageError::from)?;
                standing(&mut connection, id)?
            }
        })
    }

    /// Hands in an order, which comes to `posting` if it is one.
    ///
    /// # Errors
    /// [`MoveError::Stopped`] where an earlier one came to something else.
    pub(super) fn order(
        &mut self,
        order: Order,
        posting: Option<Posting>,
    ) -> Result<(), MoveError> {
        let Self::Journal(journal) = self else {
            return Ok(());
        };
        while journal.under_way.len() >= UNDER_WAY {
            journal.settle_one()?;
        }
        let ticket = journal.offline.writer.submit(order).map_err(not_written)?;
        journal.under_way.push_back((ticket, posting));
        Ok(())
    }

    /// Waits until everything is durable, and lets the outbox pass it.
    ///
    /// # Errors
    /// [`MoveError`].
    pub(super) fn finish(&mut self) -> Result<(), MoveError> {
        let Self::Journal(journal) = self else {
            return Ok(());
        };
        while !journal.under_way.is_empty() {
            journal.settle_one()?;
        }
        journal.pass_outbox()
    }

    /// Commits what was handed in and lets the database go.
    pub(super) fn close(self) {
        if let Self::Journal(journal) = self {
            actix_web::rt::System::new().block_on(journal.offline.writer.close());
        }
    }
}

impl Journal {
    fn settle_one(&mut self) -> Result<(), MoveError> {
        let Some((ticket, expected)) = self.under_way.pop_front() else {
            return Ok(());
        };
        let decision = ticket
            .blocking_recv()
            .map_err(|_| not_written(WriteError::Unavailable))?
            .map_err(not_written)?;
        match (&decision.outcome, expected) {
            (Outcome::Done(_), None) => Ok(()),
            (Outcome::Done(entry), Some(expected)) => match &entry.fact {
                Fact::Posted(movement) if movement.posting == expected => Ok(()),
                _ => Err(another(&decision)),
            },
            (Outcome::Refused(_), _) => Err(another(&decision)),
        }
    }

    /// Moves the outbox past what is history, so that not every balance on the way is published.
    fn pass_outbox(&mut self) -> Result<(), MoveError> {
        let mut connection = self.offline.readers.get().map_err(StorageError::from)?;
        for position in outbox_past_history(&mut connection)? {
            let update = OutboxUpdate {
                lane: position.lane,
                position: position.seq,
                quarantined: Vec::new(),
            };
            let ticket = self.offline.writer.move_outbox(update);
            ticket
                .map_err(not_written)?
                .blocking_recv()
                .map_err(|_| not_written(WriteError::Unavailable))?
                .map_err(not_written)?;
        }
        Ok(())
    }
}

fn not_written(error: WriteError) -> MoveError {
    MoveError::Stopped(match error {
        WriteError::KeyReused => {
            "una fila con el mismo id ya se trajo de otra base con el mismo nombre".to_owned()
        }
        error => format!("la base de datos de Atalaya no lo ha escrito: {error}"),
    })
}

/// The accounts were looked at and nobody else writes, so this is a defect.
fn another(decision: &Decision) -> MoveError {
    MoveError::Stopped(format!(
        "un movimiento resultó ser otro que el previsto: {:?}",
        decision.outcome
    ))
}
