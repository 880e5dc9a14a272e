//! Metrics of a process, under the names that Prometheus' own clients use.

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
