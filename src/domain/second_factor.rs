//! The second factor: codes of an authenticator app (TOTP, RFC 6238: SHA-1, six digits, thirty
//! seconds, which is what every app does).

use super::device::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// How long a code lasts, in seconds.
pub const STEP: i64 = 30;

/// Steps before and after the present one whose codes are taken too, as clocks differ.
const DRIFT: i64 = 1;

/// The step in which the moment `seconds` (since 1970 UTC) lies.
#[must_use]
pub const fn step_at(seconds: i64) -> i64 {
    seconds.div_euclid(STEP)
}

/// The code of a step.
#[must_use]
pub fn code(secret: &Secret, step: i64) -> String {
    let digest = Hmac::<Sha1>::new_from_slice(&secret.0).map_or([0; 20], |mut mac| {
        mac.update(&step.to_be_bytes());
        mac.finalize().into_bytes().into()
    });
    // RFC 4226 §5.3: the last four bits say where the number begins.
    let start = usize::from(digest[19] & 0x0f);
    let number = digest[start..start + 4]
        .iter()
        .fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
}

/// The step for which `text` is the code, if it is one of those around `seconds` and later than
/// `used`: a code is good once.
#[must_use]
pub fn proves(secret: &Secret, text: &str, seconds: i64, used: i64) -> Option<i64> {
    let now = step_at(seconds);
    // Every step is tried, whichever matches: how long it takes says nothing.
    let matching = (now - DRIFT..=now + DRIFT)
        .filter(|step| is_same(code(secret, *step).as_bytes(), text.as_bytes()));
    matching.rev().find(|step| *step > used)
}

/// Compares in a time that does not depend on where they differ.
fn is_same(left: &[u8], right: &[u8]) -> bool {
    let difference = left.iter().zip(right).fold(0, |all, (l, r)| all | (l ^ r));
    left.len() == right.len() && difference == 0
}

/// The secret as apps take it: base32 (RFC 4648 §6) without padding.
#[must_use]
pub fn base32(secret: &Secret) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut text = String::with_capacity(52);
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in secret.0 {
        buffer = (buffer << 8 | u32::from(byte)) & 0xffff;
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(buffer >> bits & 31) as usize]));
        }
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(buffer << (5 - bits) & 31) as usize]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_an_independent_implementation() {
        // Python: hmac.new(b"12345678901234567890123456789012", step, "sha1"), truncated.
        let secret = Secret(*b"12345678901234567890123456789012");
        for (seconds, expected) in CODES {
            assert_eq!(code(&secret, step_at(*seconds)), *expected, "{seconds}");
        }
        assert_eq!(
            base32(&secret),
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA"
        );
    }

    const CODES: &[(i64, &str)] = &[
        (59, "599872"),
        (1_111_111_109, "138967"),
        (20_000_000_000, "573920"),
    ];

    #[test]
    fn a_code_is_good_around_its_time_and_once() {
        let secret = Secret([7; 32]);
        let now = 1_800_000_000;
        let text = code(&secret, step_at(now));
        let step = proves(&secret, &text, now, 0).unwrap();
        assert_eq!(step, step_at(now));
        assert!(proves(&secret, &text, now + STEP, 0).is_some());
        assert!(proves(&secret, &text, now + 3 * STEP, 0).is_none());
        assert!(proves(&secret, &text, now, step).is_none());
        assert!(proves(&secret, "", now, 0).is_none());
        assert!(proves(&secret, &text[..5], now, 0).is_none());
    }
}
