//! Keys and names that nobody can guess, of the system's randomness. Leaves out where they are kept and what they open.

use crate::domain::hex;

/// A key: 256 bits as 64 hexadecimal digits.
#[must_use]
pub fn key() -> String {
    hex(&rand::random::<[u8; 32]>())
}

/// A name that nothing else has: 128 bits as 32 hexadecimal digits.
#[must_use]
pub fn id() -> String {
    hex(&rand::random::<[u8; 16]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_ids_are_of_their_length_and_never_the_same() {
        for (make, length) in [(key as fn() -> String, 64), (id, 32)] {
            let (one, other) = (make(), make());
            assert!(one.len() == length && one.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
            assert_ne!(one, other);
        }
    }
}
