//! Chance from the operating system.

use crate::flow::ports::Entropy;
use rand::RngCore;

/// A cryptographically secure generator, seeded and reseeded by the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}
