//! The line protocol that tellers' terminals have spoken since before Atalaya: what a line asks.
//!
//! Its texts are what existing terminals compare with, so they are never reworded. [`buffer`]
//! finds where a command ends, [`answer`] has what is said.

pub mod answer;
pub mod buffer;

use super::legacy::split_name;
use crate::domain::token::Token;
use crate::domain::{AccountId, Amount, AmountError};

/// The first word of a command, in capitals or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Shows a token.
    Authenticate,
    /// Reads an account.
    Balance,
    /// Pays in.
    Deposit,
    /// Pays out.
    Withdraw,
    /// Moves money to another account.
    Transfer,
    /// Opens an account.
    Open,
    /// Reads an account's latest movements.
    Movements,
    /// Asks for statistics.
    Statistics,
    /// Says goodbye.
    Quit,
}

impl Verb {
    const ALL: [Self; 9] = [
        Self::Authenticate,
        Self::Balance,
        Self::Deposit,
        Self::Withdraw,
        Self::Transfer,
        Self::Open,
        Self::Movements,
        Self::Statistics,
        Self::Quit,
    ];

    /// The word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authenticate => "AUTENTICAR",
            Self::Balance => "CONSULTA",
            Self::Deposit => "AUMENTAR",
            Self::Withdraw => "DISMINUIR",
            Self::Transfer => "TRANSFERIR",
            Self::Open => "CREAR",
            Self::Movements => "HISTORIAL",
            Self::Statistics => "STATS",
            Self::Quit => "SALIR",
        }
    }

    /// Whether it changes what is on disk, so that a repeat is not harmless.
    #[must_use]
    pub const fn is_change(self) -> bool {
        matches!(
            self,
            Self::Deposit | Self::Withdraw | Self::Transfer | Self::Open
        )
    }
}

/// What a line asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `AUTENTICAR <token>`
    Authenticate(Token),
    /// `CONSULTA <cedula>`
    Balance(AccountId),
    /// `AUMENTAR <cedula> <monto>`
    Deposit(AccountId, Amount),
    /// `DISMINUIR <cedula> <monto>`
    Withdraw(AccountId, Amount),
    /// `TRANSFERIR <origen> <destino> <monto>`
    Transfer {
        /// Who sends.
        origin: AccountId,
        /// Who receives.
        destination: AccountId,
        /// How much.
        amount: Amount,
    },
    /// `CREAR <cedula> <nombre completo>`
    Open {
        /// The new account.
        account: AccountId,
        /// The first half of the words.
        given_names: String,
        /// The rest.
        surnames: String,
    },
    /// `HISTORIAL <cedula>`
    Movements(AccountId),
    /// `STATS`
    Statistics,
    /// `SALIR`
    Quit,
}

/// Why a line asks nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No verb of ours, or not what belongs behind it.
    Unrecognised,
    /// No amount.
    MalformedAmount,
    /// An amount of nothing, or less.
    NotPositive,
    /// Less than two names.
    TooFewNames,
    /// No token.
    NotAToken,
}

impl From<AmountError> for Fault {
    fn from(error: AmountError) -> Self {
        match error {
            AmountError::NotPositive => Self::NotPositive,
            AmountError::Malformed | AmountError::TooPrecise | AmountError::TooLarge => {
                Self::MalformedAmount
            }
        }
    }
}

/// The verb of a line and what stands behind it; `None` where it is no line of this protocol.
#[must_use]
pub fn verb(line: &[u8]) -> Option<(Verb, &[u8])> {
    let is_blank = |byte: &u8| BLANKS.contains(byte);
    let start = line.iter().position(|byte| !is_blank(byte))?;
    let line = &line[start..];
    let end = line.iter().position(is_blank);
    let (word, rest) = line.split_at(end.unwrap_or(line.len()));
    let mut all = Verb::ALL.into_iter();
    let verb = all.find(|verb| verb.name().as_bytes().eq_ignore_ascii_case(word))?;
    Some((verb, rest))
}

/// What `verb` asks with `rest` behind it, which is not UTF-8 where a terminal writes names in
/// another encoding.
///
/// # Errors
/// [`Fault`].
pub fn command(verb: Verb, rest: &[u8]) -> Result<Command, Fault> {
    let rest = std::str::from_utf8(rest).map_err(|_| Fault::Unrecognised)?;
    let words: Vec<&str> = rest
        .split(BLANKS.map(char::from))
        .filter(|word| !word.is_empty())
        .collect();
    match (verb, words.as_slice()) {
        (Verb::Authenticate, [token]) => Token::parse(token)
            .map(Command::Authenticate)
            .map_err(|_| Fault::NotAToken),
        (Verb::Balance, [cedula]) => Ok(Command::Balance(account(cedula)?)),
        (Verb::Deposit, [cedula, monto]) => {
            Ok(Command::Deposit(account(cedula)?, Amount::parse(monto)?))
        }
        (Verb::Withdraw, [cedula, monto]) => {
            Ok(Command::Withdraw(account(cedula)?, Amount::parse(monto)?))
        }
        (Verb::Transfer, [origin, destination, monto]) => Ok(Command::Transfer {
            origin: account(origin)?,
            destination: account(destination)?,
            amount: Amount::parse(monto)?,
        }),
        (Verb::Open, [cedula, names @ ..]) => open(account(cedula)?, names),
        (Verb::Movements, [cedula]) => Ok(Command::Movements(account(cedula)?)),
        (Verb::Statistics, []) => Ok(Command::Statistics),
        (Verb::Quit, []) => Ok(Command::Quit),
        _ => Err(Fault::Unrecognised),
    }
}

/// What separates words. Any other control character stays part of its word, where it is refused.
const BLANKS: [u8; 2] = [b' ', b'\t'];

fn account(word: &str) -> Result<AccountId, Fault> {
    AccountId::parse(word).map_err(|_| Fault::Unrecognised)
}

/// Terminals know one field for the whole name: its first half are the given names.
fn open(account: AccountId, names: &[&str]) -> Result<Command, Fault> {
    let (given_names, surnames) = split_name(names).ok_or(Fault::TooFewNames)?;
    Ok(Command::Open {
        account,
        given_names,
        surnames,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Command, Fault> {
        let (verb, rest) = verb(line.as_bytes()).ok_or(Fault::Unrecognised)?;
        command(verb, rest)
    }

    fn id(text: &str) -> AccountId {
        AccountId::parse(text).unwrap()
    }

    #[test]
    fn each_command_is_read() {
        let amount = Amount::parse("10.50").unwrap();
        for (line, command) in [
            ("CONSULTA 1350509525", Command::Balance(id("1350509525"))),
            ("consulta 1", Command::Balance(id("1"))),
            ("  CONSULTA \t 1  ", Command::Balance(id("1"))),
            ("AUMENTAR 1 10.50", Command::Deposit(id("1"), amount)),
            ("AUMENTAR 1 10.5", Command::Deposit(id("1"), amount)),
            ("DISMINUIR 1 10.50", Command::Withdraw(id("1"), amount)),
            ("HISTORIAL 1", Command::Movements(id("1"))),
            ("STATS", Command::Statistics),
            ("SALIR", Command::Quit),
        ] {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
        let transfer = Command::Transfer {
            origin: id("1"),
            destination: id("2"),
            amount,
        };
        assert_eq!(parse("TRANSFERIR 1 2 10.50"), Ok(transfer));
    }

    #[test]
    fn the_first_half_of_the_words_are_given_names() {
        for (names, given, last) in [
            ("Ana Vera", "Ana", "Vera"),
            ("Ana Vera Paz", "Ana", "Vera Paz"),
            ("Ana  Lucía Vera Paz", "Ana Lucía", "Vera Paz"),
        ] {
            let opened = Command::Open {
                account: id("1"),
                given_names: given.to_owned(),
                surnames: last.to_owned(),
            };
            assert_eq!(parse(&format!("CREAR 1 {names}")), Ok(opened), "{names}");
        }
        for line in ["CREAR 1", "CREAR 1 Ana"] {
            assert_eq!(parse(line), Err(Fault::TooFewNames), "{line}");
        }
    }

    #[test]
    fn what_is_no_command_asks_nothing() {
        for line in [
            "",
            " ",
            "HOLA",
            "POST / HTTP/1.1",
            "CONSULTA",
            "CONSULTA 1 2",
            "CONSULTA x",
            "CONSULTA 123456789012345678901",
            "CONSULTA ١",
            "CONSULTA 1\rSALIR",
            "CONSULTA 1\0",
            "AUMENTAR 1",
            "AUMENTAR 1 2 3",
            "TRANSFERIR 1 2",
            "CREAR",
            "CREAR x Ana Vera",
            "STATS 1",
            "SALIR ya",
            "AUTENTICAR",
            "AUTENTICAR a b",
        ] {
            assert_eq!(parse(line), Err(Fault::Unrecognised), "{line:?}");
        }
        let (consulta, rest) = verb(b"CONSULTA \xff").unwrap();
        assert_eq!(command(consulta, rest), Err(Fault::Unrecognised));
        assert_eq!(verb(b"CONSULTA\xff 1"), None);
        assert_eq!(verb(b"\x16\x03\x01\x02"), None);
        assert_eq!(parse("AUTENTICAR short"), Err(Fault::NotAToken));
    }

    #[test]
    fn amounts_are_exact_or_nothing() {
        for (amount, fault) in [
            ("x", Fault::MalformedAmount),
            ("1e2", Fault::MalformedAmount),
            ("12,50", Fault::MalformedAmount),
            ("1.001", Fault::MalformedAmount),
            ("NaN", Fault::MalformedAmount),
            ("1000000000000000", Fault::MalformedAmount),
            ("0", Fault::NotPositive),
            ("0.00", Fault::NotPositive),
            ("-5", Fault::NotPositive),
        ] {
            for line in [
                format!("AUMENTAR 1 {amount}"),
                format!("DISMINUIR 1 {amount}"),
                format!("TRANSFERIR 1 2 {amount}"),
            ] {
                assert_eq!(parse(&line), Err(fault), "{line}");
            }
        }
    }

    #[test]
    fn a_token_does_not_show() {
        let token = "atp_0123456789-0123456789-0123456789-0123456789";
        let command = parse(&format!("AUTENTICAR {token}")).unwrap();
        assert!(!format!("{command:?}").contains("0123456789"));
    }

    proptest! {
        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some((verb, rest)) = verb(&line) {
                let _ = command(verb, rest);
            }
        }

        #[test]
        fn nothing_behind_a_verb_panics(rest in ".{0,64}", index in 0..Verb::ALL.len()) {
            let _ = command(Verb::ALL[index], rest.as_bytes());
        }
    }
}
