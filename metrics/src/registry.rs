//! Counts, and writes down what was counted.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::table::{Kind, Metric, Unit, Values};

/// Counters with no more series than this begin at zero, so that the first event is seen as a rise.
const BEGUN_MAX: usize = 32;

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Metrics that are exposed together.
#[derive(Debug, Default)]
pub struct Exposition(Registry);

/// Counters of one family, with `N` labels.
#[derive(Clone, Debug)]
pub struct Counters<const N: usize> {
    metric: &'static Metric,
    family: Family<Labels<N>, Counter>,
}

/// Histograms of one family, with `N` labels.
#[derive(Clone, Debug)]
pub struct Histograms<const N: usize> {
    metric: &'static Metric,
    family: Family<Labels<N>, Histogram, Buckets>,
}

/// One value that is read when someone asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    metric: &'static Metric,
    values: Vec<&'static str>,
    value: f64,
}

#[derive(Clone, Debug)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

impl Exposition {
    /// Counters of a family.
    pub fn counters<const N: usize>(&mut self, metric: &'static Metric) -> Counters<N> {
        let counters = Counters { metric, family: Family::default() };
        counters.begin();
        self.register(metric, counters.family.clone());
        counters
    }

    /// Histograms of a family.
    pub fn histograms<const N: usize>(&mut self, metric: &'static Metric) -> Histograms<N> {
        let bounds = match metric.kind {
            Kind::Histogram(bounds) => bounds,
            Kind::Counter | Kind::Gauge | Kind::Info => &[],
        };
        let family = Family::new_with_constructor(Buckets(bounds));
        self.register(metric, family.clone());
        Histograms { metric, family }
    }

    /// What always holds.
    pub fn info<const N: usize>(&mut self, metric: &'static Metric, values: [&'static str; N]) {
        self.register(metric, Info::new(labelled(metric, values)));
    }

    /// Values that are read when someone asks. Those of one metric have to follow each other.
    pub fn read(&mut self, read: impl Fn() -> Vec<Sample> + Send + Sync + 'static) {
        self.0.register_collector(Box::new(Reading(Box::new(read))));
    }

    /// All of it, in OpenMetrics' text.
    ///
    /// # Errors
    /// When it cannot be written, which would be a defect here.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.0)?;
        Ok(out)
    }

    fn register(&mut self, metric: &'static Metric, counted: impl prometheus_client::registry::Metric) {
        // The registry puts the full stop back.
        let help = metric.text().trim_end_matches('.');
        match metric.unit {
            None => self.0.register(metric.name, help, counted),
            Some(unit) => self.0.register_with_unit(metric.name, help, registered(unit), counted),
        }
    }
}

impl<const N: usize> Counters<N> {
    /// One more.
    pub fn add(&self, values: [&'static str; N]) {
        self.add_many(values, 1);
    }

    /// So many more.
    pub fn add_many(&self, values: [&'static str; N], more: u64) {
        self.family.get_or_create(&labelled(self.metric, values)).inc_by(more);
    }

    /// Shows every series from the beginning if there are few.
    fn begin(&self) {
        let lists = self.metric.labels.iter().map(|(_, values)| match values {
            Values::Of(values) => *values,
            Values::Reasons | Values::Version => &[],
        });
        let lists: Vec<_> = lists.collect();
        if (1..=BEGUN_MAX).contains(&lists.iter().map(|list| list.len()).product()) {
            for values in combinations(&lists) {
                if let Ok(values) = <[&'static str; N]>::try_from(values) {
                    self.add_many(values, 0);
                }
            }
        }
    }
}

impl<const N: usize> Histograms<N> {
    /// It took so long.
    pub fn observe(&self, values: [&'static str; N], took: Duration) {
        self.family.get_or_create(&labelled(self.metric, values)).observe(took.as_secs_f64());
    }
}

impl Sample {
    /// `value` of `metric`, with the values of its labels.
    #[must_use]
    pub fn new(metric: &'static Metric, values: Vec<&'static str>, value: f64) -> Self {
        Self { metric, values, value }
    }
}

/// All ways to take one of each list.
fn combinations(lists: &[&'static [&'static str]]) -> Vec<Vec<&'static str>> {
    lists.iter().fold(vec![Vec::new()], |taken, list| {
        let with = |before: &Vec<&'static str>, one: &'static str| {
            before.iter().copied().chain([one]).collect::<Vec<_>>()
        };
        taken.iter().flat_map(|before| list.iter().map(move |one| with(before, one))).collect()
    })
}

fn labelled<const N: usize>(metric: &'static Metric, values: [&'static str; N]) -> Labels<N> {
    let mut names = metric.labels.iter().map(|(name, _)| *name);
    values.map(|value| (names.next().unwrap_or_default(), value))
}

fn registered(unit: Unit) -> prometheus_client::registry::Unit {
    match unit {
        Unit::Seconds => prometheus_client::registry::Unit::Seconds,
        Unit::Bytes => prometheus_client::registry::Unit::Bytes,
    }
}

struct Reading(Box<dyn Fn() -> Vec<Sample> + Send + Sync>);

impl fmt::Debug for Reading {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Reading")
    }
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let samples = (self.0)();
        for family in samples.chunk_by(|one, next| std::ptr::eq(one.metric, next.metric)) {
            let Some(Sample { metric, .. }) = family.first() else { continue };
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge | Kind::Histogram(_) | Kind::Info => MetricType::Gauge,
            };
            let unit = metric.unit.map(registered);
            let mut encoder = encoder.encode_descriptor(metric.name, metric.text(), unit.as_ref(), kind)?;
            for sample in family {
                let names = metric.labels.iter().map(|(name, _)| *name);
                let labels: Vec<_> = names.zip(sample.values.iter().copied()).collect();
                let mut encoder = encoder.encode_family(&labels)?;
                match kind {
                    MetricType::Counter => {
                        let none: Option<&Exemplar<Labels<0>, f64>> = None;
                        encoder.encode_counter(&sample.value, none)?;
                    }
                    _ => encoder.encode_gauge(&sample.value)?,
                }
            }
        }
        Ok(())
    }
}
