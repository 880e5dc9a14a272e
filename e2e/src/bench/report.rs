//! The figures, as a table and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Scenario.
    pub scenario: &'static str,
    /// What was measured: the operator or the floor.
    pub subject: &'static str,
    /// Name with unit.
    pub figure: String,
    /// Value.
    pub value: f64,
    /// At most this is wanted.
    pub target: Option<f64>,
}

impl Figure {
    fn line(&self) -> String {
        let Self { scenario, subject, figure, value, target } = self;
        let target = match *target {
            Some(target) if *value <= target => format!("target {target}: met"),
            Some(target) => format!("target {target}: MISSED"),
            None => String::new(),
        };
        let value = format!("{value:.3}");
        format!("{scenario:8} {subject:8} {figure:48} {value:>12}  {target}")
    }
}

/// All figures of a run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Commit of the checkout.
    pub commit: String,
    /// The machine: processor and its count.
    pub machine: String,
    /// What is not real.
    pub simulated: &'static str,
    /// Figures.
    pub figures: Vec<Figure>,
}

impl Report {
    /// Adds a figure, and tells it at once: a run takes long, and may not come to its end.
    pub fn add(
        &mut self,
        scenario: &'static str,
        subject: &'static str,
        figure: impl Into<String>,
        value: f64,
        target: Option<f64>,
    ) {
        let figure = Figure { scenario, subject, figure: figure.into(), value, target };
        #[allow(clippy::print_stderr, reason = "progress of a long run")]
        {
            eprintln!("{}", figure.line());
        }
        self.figures.push(figure);
    }

    /// For a person.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!("commit {}, {}\nsimulated: {}\n\n", self.commit, self.machine, self.simulated);
        for row in &self.figures {
            let _ = writeln!(out, "{}", row.line());
        }
        out
    }
}

/// The value below which the share `p` of `values` lies; 0 of none.
#[must_use]
pub fn percentile(values: &mut [f64], p: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank"
    )]
    let rank = ((values.len() as f64 * p).ceil() as usize).clamp(1, values.len().max(1));
    values.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_verdicts() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|p| percentile(&mut values, p)), [1.0, 50.0, 99.0, 100.0]);
        assert_eq!(percentile(&mut [], 0.5), 0.0);
        let mut report = Report::default();
        report.add("idle", "operator", "writes", 0.0, Some(0.0));
        report.add("idle", "operator", "more", 2.0, Some(1.0));
        let table = report.table();
        assert!(table.contains("target 0: met") && table.contains("target 1: MISSED"), "{table}");
    }
}
