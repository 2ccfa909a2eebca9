//! One simulated device: it does what its group does, hears what it is told, and sends again what
//! is not answered.
//!
//! It never waits for its link. What it waits for is one of: news, the next thing to do, room to
//! send, another act.

use super::super::credentials::{CredentialsError, Numbers};
use super::super::jws::{Alert, Fingerprint, Message};
use super::super::link::{Link, LinkSettings, News};
use super::super::outbox::{Heard, Outbox, Pending};
use super::super::reply::{Order, Reply};
use super::super::scenario::{Group, Reaction};
use super::clockwork::{Clockwork, Deed, Dice, heartbeat};
use super::reflexes::Reflexes;
use super::stage::{Act, Stage};
use super::tally::{Class, Entry};
use crate::domain::registry::HEARTBEAT;
use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Old messages that a device keeps to send them again.
const MEMORY: usize = 256;

/// Messages sent once whose answers are waited for; beyond it the oldest count as unanswered.
const MAX_ONCE: usize = 65_536;

/// How long the answer to a message that is sent once is waited for.
const ONCE_WAIT: Duration = Duration::from_secs(5);

/// Deeds in one go, so that whatever else there is gets its turn.
const DEEDS_AT_ONCE: u32 = 32;

/// Further ahead than any simulation.
const FAR: Duration = Duration::from_secs(3_600);

/// What a device is, before it starts.
pub(super) struct Role {
    /// Its identity and its numbers.
    pub(super) numbers: Numbers,
    /// Where it connects.
    pub(super) settings: LinkSettings,
    /// Whether it is an impostor.
    pub(super) forged: bool,
    /// A number that tells it from others.
    pub(super) place: u64,
}

/// What the director may know of a device while it plays.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// It has nothing of its own left to do.
    pub(super) done: Cell<bool>,
    /// Nothing of it waits for an answer.
    pub(super) quiet: Cell<bool>,
    /// It goes on until it is stopped.
    pub(super) endless: Cell<bool>,
    /// It is told, and does nothing by itself.
    pub(super) listens_only: Cell<bool>,
}

/// A message that is sent once.
struct Once {
    message: Message,
    class: Class,
    sent: Instant,
}

/// An old message and the alert it had become.
struct Answered {
    message: Message,
    alert: Option<String>,
}

/// A running device.
pub(super) struct Player {
    name: String,
    stage: Rc<Stage>,
    progress: Rc<Progress>,
    act: watch::Receiver<Act>,
    numbers: Numbers,
    settings: LinkSettings,
    forged: bool,
    dice: Dice,
    deeds: Vec<Clockwork>,
    reflexes: Reflexes,
    outbox: Outbox,
    once: HashMap<Fingerprint, Once>,
    /// When each was sent, in order; answered ones drop out when their time comes.
    once_order: VecDeque<(Fingerprint, Instant)>,
    old: VecDeque<Answered>,
    link: Option<Link>,
    reach: Reach,
    silent_until: Option<Instant>,
    /// The last trouble with the broker, so that it is told once.
    trouble: String,
}

/// Whether a device can be heard now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// It is not connected.
    Away,
    /// The broker does not let it in.
    Denied,
    /// It is connected.
    Open,
    /// It is connected, and its link has no room.
    Full,
}

/// What woke a device.
enum Wake {
    News(Box<News>),
    Room,
    Act,
    Time,
}

impl Player {
    /// A device of `group`.
    pub(super) fn new(
        role: Role,
        group: &Group,
        seed: u64,
        stage: Rc<Stage>,
        act: watch::Receiver<Act>,
    ) -> Self {
        let mut dice = Dice::new(seed, role.place);
        let deeds = Clockwork::of(group, Instant::now(), &mut dice);
        let progress = Progress::default();
        let own = || deeds.iter().filter(|deed| !deed.is_heartbeat());
        progress.endless.set(own().any(Clockwork::is_endless));
        progress.listens_only.set(own().next().is_none());
        Self {
            name: role.settings.device.device.to_string(),
            stage,
            progress: Rc::new(progress),
            act,
            numbers: role.numbers,
            settings: role.settings,
            forged: role.forged,
            dice,
            deeds,
            reflexes: Reflexes::new(group),
            outbox: Outbox::new(group.ventana),
            once: HashMap::new(),
            once_order: VecDeque::new(),
            old: VecDeque::new(),
            link: None,
            reach: Reach::Away,
            silent_until: None,
            trouble: String::new(),
        }
    }

    /// What the director may know.
    pub(super) fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.progress)
    }

    /// Plays until it is asked to leave, or cannot go on.
    pub(super) async fn run(mut self) {
        self.link = Some(Link::open(self.settings.clone()));
        if let Err(error) = self.play().await {
            self.stage
                .say(&self.name, &format!("no puede seguir: {error}"));
            self.stage.tally.borrow_mut().failed();
        }
        self.leave().await;
    }

    async fn play(&mut self) -> Result<(), CredentialsError> {
        loop {
            let act = *self.act.borrow_and_update();
            if act == Act::Leave {
                return Ok(());
            }
            let now = Instant::now();
            self.wake_up(now, act);
            if act == Act::Play {
                self.do_deeds(now)?;
            }
            self.pump(now);
            self.forget(now);
            self.report();
            match self.wait(act).await {
                Wake::News(news) => self.hear(*news)?,
                Wake::Room => self.reach = Reach::Open,
                Wake::Act | Wake::Time => {}
            }
        }
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self, act: Act) -> Wake {
        let until = self.next_time(act);
        let (acts, full) = (&mut self.act, self.reach == Reach::Full);
        let news = async {
            match &mut self.link {
                Some(link) if full => link.news_or_room().await,
                Some(link) => Some(link.news().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            news = news => news.map_or(Wake::Room, |news| Wake::News(news.into())),
            () = tokio::time::sleep_until(until.into()) => Wake::Time,
            _ = acts.changed() => Wake::Act,
        }
    }

    fn next_time(&self, act: Act) -> Instant {
        let now = Instant::now();
        let deeds = self.deeds.iter().filter(|deed| self.may(deed));
        let deeds = deeds
            .filter_map(Clockwork::next)
            .filter(|_| act == Act::Play);
        let sends = self.reach == Reach::Open && self.silent_until.is_none();
        let due = self.outbox.next_due().filter(|_| sends);
        let once = self.once_order.front().map(|(_, sent)| *sent + ONCE_WAIT);
        deeds
            .chain(due)
            .chain(once)
            .chain(self.silent_until)
            .min()
            .unwrap_or(now + FAR)
    }

    /// Whether a deed may be done now: one without a pace of its own waits for replies, and an
    /// impostor, who sends once, until it can be heard or never will be.
    fn may(&self, deed: &Clockwork) -> bool {
        let room = self.outbox.len() < crate::domain::device::SEQUENCE_WINDOW;
        (room || !deed.is_paced_by_replies()) && (!self.forged || self.reach != Reach::Away)
    }

    fn do_deeds(&mut self, now: Instant) -> Result<(), CredentialsError> {
        for _ in 0..DEEDS_AT_ONCE {
            let due = |deed: &&Clockwork| deed.next().is_some_and(|next| next <= now);
            let Some(place) = self
                .deeds
                .iter()
                .position(|deed| due(&deed) && self.may(deed))
            else {
                break;
            };
            let deed = self.deeds[place].fire(&mut self.dice);
            self.act_out(deed, now)?;
        }
        Ok(())
    }

    fn act_out(&mut self, deed: Deed, now: Instant) -> Result<(), CredentialsError> {
        match deed {
            Deed::Silence { span, cut } => {
                self.fall_silent(now + span, cut);
                Ok(())
            }
            _ if self.silent_until.is_some() => Ok(()),
            Deed::Press(alert) if self.forged => self.send_once(&alert, Class::Forjada, now),
            Deed::Press(alert) => self.say(&alert, Class::Alerta, now),
            Deed::Flood(alert) => self.send_once(&alert, Class::Inundacion, now),
            // One heartbeat that waits says as much as two.
            Deed::Beat if !self.outbox.is_empty() => Ok(()),
            Deed::Beat if self.forged => Ok(()),
            Deed::Beat => self.say(&heartbeat(), Class::Latido, now),
            Deed::Replay(count) => {
                self.replay(count, now);
                Ok(())
            }
        }
    }

    fn fall_silent(&mut self, until: Instant, cut: bool) {
        let how = if cut { "sin conexión" } else { "conectado" };
        self.stage.say(&self.name, &format!("🔇 calla ({how})"));
        self.silent_until = Some(until);
        if cut && let Some(link) = self.link.take() {
            link.cut();
            self.reach = Reach::Away;
        }
    }

    /// Silence ends when its time is over, and when the play is.
    fn wake_up(&mut self, now: Instant, act: Act) {
        let over = |until: Instant| until <= now || act != Act::Play;
        if self.silent_until.is_some_and(over) {
            self.silent_until = None;
            self.stage.say(&self.name, "🔈 vuelve");
            if self.link.is_none() {
                self.link = Some(Link::open(self.settings.clone()));
            }
        }
    }

    fn sign(&mut self, alert: &Alert, class: Class) -> Result<Message, CredentialsError> {
        let seq = self.numbers.take()?;
        let credentials = self.numbers.credentials();
        let mut signature = credentials.signature();
        // An impostor's `sub` is whom it speaks as.
        signature.subject = &self.settings.publishes_as;
        self.stage.tally.borrow_mut().signed(class);
        Ok(signature.sign(alert, seq, self.stage.unix()))
    }

    /// Signs an alert that is sent until it is answered.
    fn say(&mut self, alert: &Alert, class: Class, now: Instant) -> Result<(), CredentialsError> {
        if !self.outbox.has_room() {
            self.stage.tally.borrow_mut().dropped();
            return Ok(());
        }
        let message = self.sign(alert, class)?;
        self.outbox.add(message, now);
        Ok(())
    }

    /// Signs an alert that is sent once, now or never.
    fn send_once(
        &mut self,
        alert: &Alert,
        class: Class,
        now: Instant,
    ) -> Result<(), CredentialsError> {
        if self.reach != Reach::Open {
            self.stage.tally.borrow_mut().dropped();
            return Ok(());
        }
        let message = self.sign(alert, class)?;
        self.transmit_once(message, class, now);
        Ok(())
    }

    fn transmit_once(&mut self, message: Message, class: Class, now: Instant) {
        if !self.transmit(&message) {
            self.stage.tally.borrow_mut().unanswered(class);
            return;
        }
        let fingerprint = message.fingerprint;
        self.once_order.push_back((fingerprint, now));
        let once = Once {
            message,
            class,
            sent: now,
        };
        self.once.insert(fingerprint, once);
    }

    fn transmit(&mut self, message: &Message) -> bool {
        let Some(link) = &self.link else {
            return false;
        };
        if link.send(message.bytes.clone()) {
            self.stage.tally.borrow_mut().sent();
            return true;
        }
        self.reach = Reach::Full;
        false
    }

    fn replay(&mut self, count: u32, now: Instant) {
        for _ in 0..count {
            let place = self.dice.below(self.old.len() as u64);
            let old = usize::try_from(place)
                .ok()
                .and_then(|place| self.old.get(place));
            let Some(message) = old.map(|old| old.message.clone()) else {
                return;
            };
            // One replay of a message at a time: two answers could not be told apart.
            if self.reach == Reach::Open && !self.once.contains_key(&message.fingerprint) {
                self.stage.tally.borrow_mut().signed(Class::Repeticion);
                self.transmit_once(message, Class::Repeticion, now);
            }
        }
    }

    /// Sends what is due, as long as there is room.
    fn pump(&mut self, now: Instant) {
        if self.silent_until.is_some() {
            return;
        }
        while self.reach == Reach::Open {
            let Some(message) = self.outbox.due(now).cloned() else {
                return;
            };
            if self.transmit(&message) {
                self.outbox.sent(message.seq, now);
            }
        }
    }

    /// Gives up on the answers to what was sent once and long ago.
    fn forget(&mut self, now: Instant) {
        while let Some(&(fingerprint, sent)) = self.once_order.front() {
            if sent + ONCE_WAIT > now && self.once_order.len() <= MAX_ONCE {
                return;
            }
            self.once_order.pop_front();
            // What was answered is gone, and perhaps sent again since.
            let same = |once: &Once| once.sent == sent;
            if self.once.get(&fingerprint).is_some_and(same)
                && let Some(once) = self.once.remove(&fingerprint)
            {
                self.give_up(&once);
            }
        }
    }

    fn give_up(&self, once: &Once) {
        self.stage.tally.borrow_mut().unanswered(once.class);
        if once.class != Class::Repeticion {
            let entry = Entry::new(&self.name, once.class, &once.message);
            self.stage
                .record(&entry.sent(1, Some(self.stage.wall(once.sent))));
        }
    }

    fn report(&self) {
        let own = self.deeds.iter().filter(|deed| !deed.is_heartbeat());
        let done = own.map(Clockwork::next).all(|next| next.is_none());
        self.progress.done.set(done && self.silent_until.is_none());
        self.progress
            .quiet
            .set(self.outbox.is_empty() && self.once.is_empty());
    }

    fn hear(&mut self, news: News) -> Result<(), CredentialsError> {
        let now = Instant::now();
        match news {
            News::Up => {
                self.reach = Reach::Open;
                self.trouble.clear();
                self.outbox.reconnected(now);
                self.stage.tally.borrow_mut().connected();
                self.stage.say(&self.name, "🟢 conectado");
            }
            News::Down(reason) => {
                self.reach = Reach::Away;
                self.complain(format!("🔴 sin conexión: {reason}"));
            }
            News::Denied(reason) => {
                self.reach = Reach::Denied;
                self.complain(format!("🔴 {reason}"));
            }
            News::Refused(reason) => self.complain(format!("🔴 {reason}")),
            News::Reply(reply) => self.hear_reply(&reply, now)?,
            News::Order(order) => self.hear_order(&order, now)?,
        }
        Ok(())
    }

    fn complain(&mut self, trouble: String) {
        if self.trouble != trouble {
            self.stage.say_foreign(&self.name, &trouble);
            self.trouble = trouble;
        }
    }

    fn hear_reply(&mut self, reply: &Reply, now: Instant) -> Result<(), CredentialsError> {
        match self.outbox.hear(reply, now) {
            Heard::Settled(pending) => self.settle(*pending, reply, now),
            Heard::Later => {
                self.stage.tally.borrow_mut().throttled();
                self.stage.say(&self.name, &reply.to_string());
                Ok(())
            }
            Heard::Stranger => {
                self.hear_once(reply, now);
                Ok(())
            }
        }
    }

    fn settle(
        &mut self,
        pending: Pending,
        reply: &Reply,
        now: Instant,
    ) -> Result<(), CredentialsError> {
        let message = pending.message;
        let class = class_of(&message);
        let time = pending.first_sent.map(|first| now.duration_since(first));
        self.stage.answered(class, reply, time);
        let first = pending.first_sent.map(|first| self.stage.wall(first));
        let entry = Entry::new(&self.name, class, &message).sent(pending.sends, first);
        self.stage.record(&entry.answered(reply, time));
        self.stage
            .say(&self.name, &format!("{} {reply}", message.kind));
        let reactions = self.reflexes.reply(reply, &message.kind);
        self.remember(message, reply);
        let alert = reply.alerta_id.as_deref().unwrap_or_default();
        self.react(&reactions, alert, now)
    }

    fn remember(&mut self, message: Message, reply: &Reply) {
        if self.old.len() >= MEMORY {
            self.old.pop_front();
        }
        let alert = reply.alerta_id.clone();
        self.old.push_back(Answered { message, alert });
    }

    /// The answer to what was sent once, or to nothing that waits.
    fn hear_once(&mut self, reply: &Reply, now: Instant) {
        let once = reply.fingerprint().and_then(|f| self.once.remove(&f));
        let Some(once) = once else {
            self.stage.tally.borrow_mut().stranger();
            return;
        };
        let time = now.duration_since(once.sent);
        self.stage.answered(once.class, reply, Some(time));
        if once.class == Class::Repeticion {
            let same = |old: &&Answered| old.message.fingerprint == once.message.fingerprint;
            let alert = self.old.iter().find(same).map(|old| &old.alert);
            let differs = |alert: &Option<String>| alert.is_some() && *alert != reply.alerta_id;
            if reply.alerta_id.is_some() && alert.is_some_and(differs) {
                self.stage.tally.borrow_mut().contradiction();
            }
        } else {
            let first = Some(self.stage.wall(once.sent));
            let entry = Entry::new(&self.name, once.class, &once.message).sent(1, first);
            self.stage.record(&entry.answered(reply, Some(time)));
        }
        self.stage
            .say(&self.name, &format!("{} {reply}", once.message.kind));
    }

    fn hear_order(&mut self, order: &Order, now: Instant) -> Result<(), CredentialsError> {
        self.stage.tally.borrow_mut().order();
        self.stage.say(&self.name, &order.to_string());
        let reactions = self.reflexes.order(order);
        self.react(&reactions, order.text("alerta_id").unwrap_or_default(), now)
    }

    fn react(
        &mut self,
        reactions: &[Reaction],
        alert: &str,
        now: Instant,
    ) -> Result<(), CredentialsError> {
        for reaction in reactions {
            match reaction {
                Reaction::Encender if self.reflexes.light(alert) => {
                    self.stage.say(&self.name, "💡 ENCENDIDO");
                }
                Reaction::Apagar if self.reflexes.darken(alert) => {
                    self.stage.say(&self.name, "⚫ APAGADO");
                }
                Reaction::Avisar => self.stage.say(&self.name, "👀 se cumple una condición"),
                Reaction::Detener => {
                    self.stage.say(&self.name, "⏹️  se detiene");
                    self.deeds.clear();
                    self.progress.endless.set(false);
                }
                Reaction::Pulsar(kind) if *self.act.borrow() == Act::Play && !self.forged => {
                    self.say(&Alert::of_kind(kind.to_string()), Class::Alerta, now)?;
                }
                Reaction::Encender | Reaction::Apagar | Reaction::Pulsar(_) => {}
            }
        }
        Ok(())
    }

    async fn leave(self) {
        if let Some(link) = self.link {
            link.close().await;
        }
        for once in self.once.values() {
            self.stage.tally.borrow_mut().unanswered(once.class);
        }
        for pending in self.outbox.into_pending() {
            let message = &pending.message;
            let class = class_of(message);
            self.stage.tally.borrow_mut().unanswered(class);
            let first = pending.first_sent.map(|first| self.stage.wall(first));
            let entry = Entry::new(&self.name, class, message).sent(pending.sends, first);
            self.stage.record(&entry);
        }
        if self.reflexes.is_lit() {
            self.stage.tally.borrow_mut().left_on(&self.name);
        }
        if let Err(error) = self.numbers.close() {
            self.stage.say(&self.name, &error.to_string());
        }
    }
}

/// The class of a message that is sent until it is answered.
fn class_of(message: &Message) -> Class {
    if message.kind == HEARTBEAT {
        Class::Latido
    } else {
        Class::Alerta
    }
}
