//! What the kernel tells of this process.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use redoubt_metrics::Sample;
use redoubt_metrics::process::{CPU, OPEN_FILES, RESIDENT, STARTED};
use rustix::time::{ClockId, clock_gettime};

/// Of a process that started at that time. What cannot be read is left out.
#[allow(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
pub(super) fn read(started: SystemTime) -> Vec<Sample> {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let used = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
    let resident = || {
        let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
        Some(pages.saturating_mul(u64::try_from(rustix::param::page_size()).ok()?) as f64)
    };
    let started = || Some(started.duration_since(UNIX_EPOCH).ok()?.as_secs_f64());
    let open = || Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64);
    let samples = [(&CPU, Some(used)), (&RESIDENT, resident()), (&OPEN_FILES, open()), (&STARTED, started())];
    samples.into_iter().filter_map(|(metric, value)| Some(Sample::new(metric, Vec::new(), value?))).collect()
}
