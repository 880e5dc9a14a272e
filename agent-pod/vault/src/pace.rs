//! How often Vault may be bothered. Pure: time and chance come in as arguments.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
const LOGIN_WINDOW: Duration = Duration::from_secs(60);

/// How long to wait after this many failures in a row: 1 s, doubled each time up to 60 s, of which between a half and all
/// is taken, by chance, so that pods which failed together do not return together.
pub(crate) fn delay(failures: u32, chance: u8) -> Duration {
    let doubled =
        FIRST_DELAY.saturating_mul(1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let full = doubled.min(LONGEST_DELAY);
    full / 2 + (full / 2) * u32::from(chance) / u32::from(u8::MAX)
}

/// A byte of chance.
pub(crate) fn chance() -> u8 {
    use ring::rand::SecureRandom;
    let mut byte = [0];
    // Without chance the longest delay is taken.
    match ring::rand::SystemRandom::new().fill(&mut byte) {
        Ok(()) => u8::from_be_bytes(byte),
        Err(_) => u8::MAX,
    }
}

/// At most so many logins in any minute.
pub(crate) struct LoginBudget {
    limit: usize,
    recent: VecDeque<Instant>,
}

impl LoginBudget {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), recent: VecDeque::new() }
    }

    /// Takes a login out of the budget, if one is left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        while self.recent.front().is_some_and(|at| now.saturating_duration_since(*at) >= LOGIN_WINDOW) {
            self.recent.pop_front();
        }
        let left = self.recent.len() < self.limit;
        if left {
            self.recent.push_back(now);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays() {
        let check = |failures, chance, millis| {
            assert_eq!(delay(failures, chance).as_millis(), millis, "{failures} {chance}")
        };
        check(1, 0, 500);
        check(1, 255, 1000);
        check(2, 255, 2000);
        check(6, 255, 32_000);
        check(7, 255, 60_000);
        check(7, 0, 30_000);
        check(u32::MAX, 255, 60_000);
        check(0, 255, 1000);
    }

    #[test]
    fn budget() {
        let start = Instant::now();
        let mut budget = LoginBudget::new(2);
        let taken: Vec<bool> =
            [0, 1, 2, 59, 60, 61, 62].map(|second| budget.take(start + Duration::from_secs(second))).to_vec();
        assert_eq!(taken, [true, true, false, false, true, true, false]);
    }
}
