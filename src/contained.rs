//! Panics of libraries that work on what people type and devices send.
//!
//! A panic ends the process (`cli::serve`): a defect of ours must not go on with half an actor. A
//! defect in a library that only read a text and gave back a value is another matter: nothing of
//! ours is half done, and the text that provokes it would end every process that reads it again.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread, now, is caught by [`contain`] and only an error.
#[must_use]
pub fn is_contained() -> bool {
    CONTAINED.get()
}

/// Runs `work`; a panic in it becomes an error with the panic's message.
///
/// `work` must change nothing that outlives it but by its last step: what a panic left half done
/// would be seen.
///
/// # Errors
/// The message of the panic.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = CONTAINED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(outer);
    outcome.map_err(|panic| message(panic.as_ref()))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_inside_is_an_error_and_the_flag_is_put_back() {
        assert!(!is_contained());
        assert_eq!(contain(is_contained), Ok(true));
        assert_eq!(contain(|| panic!("oh")), Err::<(), _>("oh".to_owned()));
        let number = 7;
        assert_eq!(
            contain(|| panic!("oh {number}")),
            Err::<(), _>("oh 7".to_owned())
        );
        assert!(!is_contained());
    }

    #[test]
    fn one_within_another_leaves_the_outer_one_contained() {
        let within = contain(|| {
            let inner = contain(|| panic!("inner"));
            (inner, is_contained())
        });
        assert_eq!(within, Ok((Err::<(), _>("inner".to_owned()), true)));
    }
}
