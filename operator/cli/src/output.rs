//! How results are told: to a person, or as JSON or YAML to a program.

use std::io::Write as _;

use serde::Serialize;

use crate::error::Error;
use crate::objects::Found;
use crate::terminal::printable;

/// The form of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text for a person.
    #[default]
    Human,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Exit status of a command that could judge and found nothing wrong.
pub const FINE: u8 = 0;
/// Exit status where problems, a refusal or a widening were found.
pub const FOUND: u8 = 1;
/// Exit status where nothing could be judged.
pub const NOT_JUDGED: u8 = 2;

/// Writes a result to standard output.
///
/// # Errors
/// When it cannot be written.
pub fn emit<T: Serialize>(format: Format, result: &T, human: &str) -> Result<(), Error> {
    let defect = |error: String| Error::Defect(format!("the result cannot be written: {error}"));
    let text = match format {
        Format::Human => printable(human),
        Format::Json => {
            let text = serde_json::to_string_pretty(result).map_err(|error| defect(error.to_string()))?;
            format!("{text}\n")
        }
        Format::Yaml => serde_saphyr::to_string(result).map_err(|error| defect(error.to_string()))?,
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Who reads has read enough, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::Terminal),
    }
}

/// One problem, for a person.
#[must_use]
pub fn problem(found: &Found) -> String {
    let problem = &found.problem;
    let mut text = String::new();
    if !found.namespace.is_empty() {
        text.push_str(&format!("{} ", found.namespace));
    }
    let is_object = found.file.as_ref() != Some(&problem.object);
    text.push_str(&problem.object);
    if !problem.field.is_empty() {
        text.push_str(&format!(" {}", problem.field));
    }
    text.push_str(&format!(": {}: {}\n", problem.reason, problem.message));
    if let Some(file) = found.file.as_ref().filter(|_| is_object) {
        text.push_str(&format!("    in {file}\n"));
    }
    text.push_str(&format!("    {}\n", problem.help));
    text
}

/// `1 object`, `2 objects`.
#[must_use]
pub fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}
