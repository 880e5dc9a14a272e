//! What a metric is.

/// A family of metrics, by Prometheus' conventions: base units, `_total` for counters, and labels with few values.
#[derive(Debug, PartialEq)]
pub struct Metric {
    /// Name without unit and suffix.
    pub name: &'static str,
    /// What is counted.
    pub kind: Kind,
    /// In what.
    pub unit: Option<Unit>,
    /// Labels and their values.
    pub labels: &'static [(&'static str, Values)],
    /// What it tells, in one sentence.
    pub help: &'static str,
}

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only ever rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// How many were at most so large: the upper bounds.
    Histogram(&'static [f64]),
    /// Always 1; the labels tell.
    Info,
}

/// Unit of a metric: base units only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// What values a label can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// These.
    Of(&'static [&'static str]),
    /// Reasons of conditions, all of which `docs/reference/api.md` lists.
    Reasons,
    /// The version of the program.
    Version,
}

impl Unit {
    /// As it stands in names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
        }
    }
}

impl Metric {
    /// Name of the family.
    #[must_use]
    pub fn family(&self) -> String {
        match self.unit {
            None => self.name.to_owned(),
            Some(unit) => format!("{}_{}", self.name, unit.as_str()),
        }
    }

    /// Names of its samples, as they are asked for in queries.
    #[must_use]
    pub fn samples(&self) -> Vec<String> {
        let family = self.family();
        let suffixes: &[&str] = match self.kind {
            Kind::Counter => &["_total"],
            Kind::Gauge => &[""],
            Kind::Histogram(_) => &["_bucket", "_count", "_sum"],
            Kind::Info => &["_info"],
        };
        suffixes.iter().map(|suffix| format!("{family}{suffix}")).collect()
    }

    /// What it tells, in one sentence.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.help.trim()
    }

    pub(crate) const fn of(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, unit: None, labels: &[], help: "" }
    }

    pub(crate) const fn unit(self, unit: Unit) -> Self {
        Self { unit: Some(unit), ..self }
    }

    pub(crate) const fn labels(self, labels: &'static [(&'static str, Values)]) -> Self {
        Self { labels, ..self }
    }

    pub(crate) const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }
}

/// Metrics with a list of them, so that there is one list, and its documentation is that of the reference.
macro_rules! table {
    ($($(#[doc = $help:literal])+ $name:ident = $metric:expr;)+) => {
        $($(#[doc = $help])+ pub static $name: Metric = $metric.help(concat!($($help),+));)+

        /// All of them.
        pub static ALL: &[&Metric] = &[$(&$name),+];
    };
}
pub(crate) use table;
