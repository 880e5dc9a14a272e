//! Metrics of a process, under the names that Prometheus' own clients use.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::registry::Sample;
use crate::table::{Kind, Metric, Unit, table};

table! {
    /// Processor time that the process has used, in user and in system mode.
    CPU = Metric::of("process_cpu", Kind::Counter).unit(Unit::Seconds);
    /// Memory of the process that is resident.
    RESIDENT = Metric::of("process_resident_memory", Kind::Gauge).unit(Unit::Bytes);
    /// File descriptors that the process has open.
    OPEN_FILES = Metric::of("process_open_fds", Kind::Gauge);
    /// Time at which the process started, since the Unix epoch.
    STARTED = Metric::of("process_start_time", Kind::Gauge).unit(Unit::Seconds);
}

/// What the kernel tells of this process, which started at that time. What cannot be read is left out.
#[allow(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
#[must_use]
pub fn read(started: SystemTime) -> Vec<Sample> {
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
