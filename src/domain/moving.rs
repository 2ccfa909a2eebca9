//! Moving in: what has to be posted so that an account's history from the system before Atalaya
//! ends at the balance that system says.
//!
//! The old history is taken as it is. Where it does not explain the balance, or would pass below
//! zero on the way, an adjustment before it makes it possible; where that is more than the balance
//! allows, a second one after it takes the rest away.

use super::account::{Account, Posting, PostingKind};
use super::amount::{Amount, Money};
use super::command::Command;
use super::{AccountId, IdempotencyKey};

/// One movement of the old system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldMovement {
    /// How the old system names it.
    pub id: String,
    /// The key under which it is brought in.
    pub key: IdempotencyKey,
    /// What kind; never an adjustment.
    pub kind: PostingKind,
    /// How much.
    pub amount: Amount,
    /// The day it happened, in days since 1970-01-01.
    pub day: i32,
    /// The balance that the old system says it left (`saldo_final`), where it says one.
    pub stated: Option<Money>,
}

/// Why an account cannot be moved in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Immovable {
    /// It owes.
    #[error("its balance is {0}, below zero")]
    BelowZero(Money),
    /// Its history does not fit.
    #[error("its history sums up to more than can be represented")]
    TooRich,
}

/// The first movement whose stated balance does not follow from the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contradiction {
    /// Its place in the history, from 0.
    pub index: usize,
    /// What it states.
    pub stated: Money,
    /// What follows from the movement before it; from nothing at all for the first.
    pub follows: Money,
    /// How many there are, this one included.
    pub count: usize,
}

/// What brings one account in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MovePlan {
    /// The balance in the old system, and of the account when it is in.
    pub balance: Money,
    /// What the history alone sums up to.
    pub explained: Money,
    /// The lowest that the history alone would bring the account to; zero where it never passes
    /// below.
    pub lowest: Money,
    /// The adjustment before the history: zero or more.
    pub opening: Money,
    /// The adjustment after the history: zero or less.
    pub closing: Money,
    /// Where stated balances contradict.
    pub contradiction: Option<Contradiction>,
    opening_day: i32,
    closing_day: i32,
}

/// What a step of a plan stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// The adjustment before the history.
    Opening,
    /// A movement of the old system.
    Movement(&'a OldMovement),
    /// The adjustment after the history.
    Closing,
}

/// One posting to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// What it stands for.
    pub origin: Origin<'a>,
    /// What it must come to.
    pub posting: Posting,
    /// Its value date, in days since 1970-01-01.
    pub day: i32,
}

impl Step<'_> {
    /// The command that makes it.
    #[must_use]
    pub fn command(&self, account: &AccountId) -> Command {
        Command::BringIn {
            account: account.clone(),
            kind: self.posting.kind,
            amount: self.posting.amount,
            version: self.posting.version,
        }
    }
}

/// Plans how to bring in an account that holds `balance` after `history`, in the order in which it
/// happened. `today` is the day of an adjustment that has no movement to go by.
///
/// # Errors
/// [`Immovable`] where no postings can end at that balance.
pub fn plan(balance: Money, history: &[OldMovement], today: i32) -> Result<MovePlan, Immovable> {
    if balance < Money::ZERO {
        return Err(Immovable::BelowZero(balance));
    }
    let (mut sum, mut lowest) = (Money::ZERO, Money::ZERO);
    for movement in history {
        sum = after(sum, movement).ok_or(Immovable::TooRich)?;
        lowest = lowest.min(sum);
    }
    let missing = balance.minus(sum).ok_or(Immovable::TooRich)?;
    let needed = Money::ZERO.minus(lowest).ok_or(Immovable::TooRich)?;
    let opening = missing.max(needed);
    let closing = missing.minus(opening).ok_or(Immovable::TooRich)?;
    let day_of = |movement: Option<&OldMovement>| movement.map_or(today, |movement| movement.day);
    let plan = MovePlan {
        balance,
        explained: sum,
        lowest,
        opening,
        closing,
        contradiction: contradiction(history)?,
        // The day before the history, so that lists by value date begin with it.
        opening_day: history
            .first()
            .map_or(today, |first| first.day.saturating_sub(1)),
        closing_day: today.max(day_of(history.last())),
    };
    // The account itself has the last word on what it can hold.
    let mut steps = plan.steps(history);
    steps.by_ref().for_each(drop);
    if steps.failed || steps.account.balance != balance {
        return Err(Immovable::TooRich);
    }
    Ok(plan)
}

/// A balance after a movement; `None` where it would not fit. It may be below zero.
fn after(balance: Money, movement: &OldMovement) -> Option<Money> {
    if movement.kind.is_credit() {
        balance.plus(movement.amount.money())
    } else {
        balance.minus(movement.amount.money())
    }
}

fn contradiction(history: &[OldMovement]) -> Result<Option<Contradiction>, Immovable> {
    let mut found: Option<Contradiction> = None;
    let mut balance = Money::ZERO;
    for (index, movement) in history.iter().enumerate() {
        let follows = after(balance, movement).ok_or(Immovable::TooRich)?;
        let stated = movement.stated.unwrap_or(follows);
        if stated != follows {
            let first = found.get_or_insert(Contradiction {
                index,
                stated,
                follows,
                count: 0,
            });
            first.count += 1;
        }
        // What comes next is held against what is stated here: one gap is one contradiction.
        balance = stated;
    }
    Ok(found)
}

impl MovePlan {
    /// Whether the history explains the balance by itself.
    #[must_use]
    pub fn is_explained(&self) -> bool {
        self.opening == Money::ZERO && self.closing == Money::ZERO
    }

    /// The postings, in order. `history` is what it was planned for.
    #[must_use]
    pub fn steps<'a>(&self, history: &'a [OldMovement]) -> Steps<'a> {
        Steps {
            plan: *self,
            history: history.iter(),
            stage: Stage::Opening,
            account: Account::NEW,
            failed: false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    History,
    Over,
}

/// The postings of a [`MovePlan`].
#[derive(Debug, Clone)]
pub struct Steps<'a> {
    plan: MovePlan,
    history: std::slice::Iter<'a, OldMovement>,
    stage: Stage,
    account: Account,
    failed: bool,
}

impl<'a> Steps<'a> {
    fn step(
        &mut self,
        origin: Origin<'a>,
        kind: PostingKind,
        amount: Amount,
        day: i32,
    ) -> Option<Step<'a>> {
        let Ok(posting) = self.account.apply(kind, amount) else {
            self.failed = true;
            return None;
        };
        self.account = Account::after(&posting);
        Some(Step {
            origin,
            posting,
            day,
        })
    }
}

impl<'a> Iterator for Steps<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        if self.stage == Stage::Opening {
            self.stage = Stage::History;
            if let Ok(amount) = Amount::from_cents(self.plan.opening.cents()) {
                let day = self.plan.opening_day;
                return self.step(Origin::Opening, PostingKind::AdjustedUp, amount, day);
            }
        }
        if self.stage == Stage::History {
            if let Some(movement) = self.history.next() {
                let origin = Origin::Movement(movement);
                return self.step(origin, movement.kind, movement.amount, movement.day);
            }
            self.stage = Stage::Over;
            if let Ok(amount) = Amount::from_cents(-self.plan.closing.cents()) {
                let day = self.plan.closing_day;
                return self.step(Origin::Closing, PostingKind::AdjustedDown, amount, day);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TODAY: i32 = 20_000;

    fn money(cents: i64) -> Money {
        Money::from_cents(cents)
    }

    /// Movements by their effect in cents, a day apart from day 100 on, each stating nothing.
    fn history(effects: &[i64]) -> Vec<OldMovement> {
        let movements = effects.iter().zip(100..).map(|(effect, day)| OldMovement {
            id: day.to_string(),
            key: IdempotencyKey::parse(&format!("k:{day}")).unwrap(),
            kind: match (effect > &0, effect % 2 == 0) {
                (true, true) => PostingKind::Deposit,
                (true, false) => PostingKind::TransferReceived,
                (false, true) => PostingKind::Withdrawal,
                (false, false) => PostingKind::TransferSent,
            },
            amount: Amount::from_cents(effect.abs()).unwrap(),
            day,
            stated: None,
        });
        movements.collect()
    }

    /// The kinds, days and balances of a plan's postings.
    fn posted(plan: &MovePlan, history: &[OldMovement]) -> Vec<(PostingKind, i32, i64)> {
        let steps = plan.steps(history);
        steps
            .map(|s| (s.posting.kind, s.day, s.posting.balance.cents()))
            .collect()
    }

    #[test]
    fn a_history_that_explains_its_balance_is_left_alone() {
        let history = history(&[1_000, -400, 55]);
        let plan = plan(money(655), &history, TODAY).unwrap();
        assert!(plan.is_explained() && plan.contradiction.is_none());
        assert_eq!(
            posted(&plan, &history),
            [
                (PostingKind::Deposit, 100, 1_000),
                (PostingKind::Withdrawal, 101, 600),
                (PostingKind::TransferReceived, 102, 655),
            ]
        );
    }

    #[test]
    fn what_is_missing_is_there_before_the_first_movement() {
        let history = history(&[-400]);
        let plan = plan(money(100), &history, TODAY).unwrap();
        assert_eq!(
            (plan.explained, plan.opening, plan.closing),
            (money(-400), money(500), Money::ZERO)
        );
        assert_eq!(
            posted(&plan, &history),
            [
                (PostingKind::AdjustedUp, 99, 500),
                (PostingKind::Withdrawal, 100, 100),
            ]
        );
    }

    #[test]
    fn without_a_history_the_balance_is_adjusted_today() {
        let given = plan(money(700), &[], TODAY).unwrap();
        assert_eq!(posted(&given, &[]), [(PostingKind::AdjustedUp, TODAY, 700)]);
        let empty = plan(Money::ZERO, &[], TODAY).unwrap();
        assert_eq!(posted(&empty, &[]), []);
    }

    #[test]
    fn what_is_too_much_is_taken_away_at_the_end() {
        let history = history(&[1_000]);
        let plan = plan(money(900), &history, TODAY).unwrap();
        assert_eq!((plan.opening, plan.closing), (Money::ZERO, money(-100)));
        assert_eq!(
            posted(&plan, &history),
            [
                (PostingKind::Deposit, 100, 1_000),
                (PostingKind::AdjustedDown, TODAY, 900),
            ]
        );
    }

    #[test]
    fn a_history_that_dips_below_zero_is_lifted_and_let_down_again() {
        let history = history(&[100, -300, 250]);
        let plan = plan(money(50), &history, TODAY).unwrap();
        assert_eq!(
            (plan.explained, plan.lowest, plan.opening, plan.closing),
            (money(50), money(-200), money(200), money(-200))
        );
        let balances: Vec<i64> = posted(&plan, &history).iter().map(|p| p.2).collect();
        assert_eq!(balances, [200, 300, 0, 250, 50]);
    }

    #[test]
    fn a_gap_in_stated_balances_is_one_contradiction() {
        let mut history = history(&[1_000, -400, 50, 50]);
        // A row of 100 is missing before the third; the fourth states nothing.
        for (movement, stated) in history.iter_mut().zip([1_000, 600, 750]) {
            movement.stated = Some(money(stated));
        }
        let plan = plan(money(800), &history, TODAY).unwrap();
        assert_eq!(
            plan.contradiction,
            Some(Contradiction {
                index: 2,
                stated: money(750),
                follows: money(650),
                count: 1
            })
        );
        assert_eq!(plan.opening, money(100));
    }

    #[test]
    fn debts_and_fortunes_are_not_moved() {
        assert_eq!(
            plan(money(-1), &[], TODAY),
            Err(Immovable::BelowZero(money(-1)))
        );
        let fortune = history(&[i64::MAX, i64::MAX]);
        assert_eq!(plan(money(1), &fortune, TODAY), Err(Immovable::TooRich));
        // Each sum fits, but not on top of the adjustment.
        let fortune = history(&[-1_000, i64::MAX]);
        let balance = money(i64::MAX);
        assert_eq!(
            plan(balance, &fortune, TODAY).unwrap().opening,
            money(1_000)
        );
        let dips = history(&[i64::MAX, -1, -i64::MAX, i64::MAX - 1]);
        assert_eq!(plan(balance, &dips, TODAY), Err(Immovable::TooRich));
    }

    proptest! {
        #[test]
        fn every_plan_ends_at_the_balance_and_never_passes_below_zero(
            effects in prop::collection::vec(
                (-100_000i64..100_000).prop_filter("not nothing", |effect| *effect != 0), 0..40),
            balance in 0i64..2_000_000,
        ) {
            let history = history(&effects);
            let plan = plan(money(balance), &history, TODAY).unwrap();
            let steps: Vec<Step<'_>> = plan.steps(&history).collect();
            prop_assert!(steps.iter().all(|step| step.posting.balance >= Money::ZERO));
            let end = steps.last().map_or(0, |step| step.posting.balance.cents());
            prop_assert_eq!(end, balance);
            prop_assert!(plan.opening >= Money::ZERO && plan.closing <= Money::ZERO);
            let adjustments = steps.iter().filter(|step| step.posting.kind.is_adjustment());
            prop_assert_eq!(adjustments.count() + history.len(), steps.len());
            let versions = steps.iter().map(|step| step.posting.version);
            prop_assert!(versions.eq(1..=i64::try_from(steps.len()).unwrap()));
            let explained: i64 = effects.iter().sum();
            prop_assert_eq!(plan.is_explained(),
                explained == balance && plan.lowest == Money::ZERO);
        }
    }
}
