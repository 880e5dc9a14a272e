//! The brain's configuration, checked.

use std::path::Path;
use std::time::Duration;

use http::Uri;
use redoubt_policy::Refusal;
use redoubt_policy::base_url::BaseUrl;
use redoubt_policy::wire::AgentConfig;

/// What the brain runs with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the Agent, which callers use as the model's name.
    pub agent: String,
    /// Namespace of the Agent.
    pub namespace: String,
    /// The system prompt; may be empty.
    pub instructions: String,
    /// Where completions are asked for.
    pub completions: Uri,
    /// The model's name as its API knows it.
    pub model: String,
    /// How many times the model may be asked in one task.
    pub max_turns: u32,
    /// How long a task may take.
    pub timeout: Duration,
}

impl Config {
    /// `Agent/NAME`, to blame in a failure.
    #[must_use]
    pub fn object(&self) -> String {
        format!("Agent/{}", self.agent)
    }
}

/// Reads the configuration. The kubelet replaces the file when the Agent changes.
///
/// # Errors
/// When it cannot be read or a field is unusable.
pub fn read(path: &Path) -> Result<Config, Refusal> {
    let unreadable = |message: String| {
        Refusal::new(
            "ConfigurationUnusable",
            "Pod",
            path.display().to_string(),
            message,
            "the operator writes this file; look at the Agent's conditions",
        )
    };
    let bytes =
        std::fs::read(path).map_err(|error| unreadable(format!("cannot read the configuration: {error}")))?;
    let given: AgentConfig = serde_json::from_slice(&bytes)
        .map_err(|error| unreadable(format!("not a configuration: {error}")))?;
    check(given)
}

fn check(given: AgentConfig) -> Result<Config, Refusal> {
    let unusable = |field: &str, message: &str, help: &str| {
        Refusal::new("ConfigurationUnusable", format!("Agent/{}", given.name), field, message, help)
    };
    let completions = given
        .model
        .base_url
        .parse::<BaseUrl>()
        .map_err(|error| error.to_string())
        .and_then(|base| format!("{base}/chat/completions").parse::<Uri>().map_err(|error| error.to_string()))
        .map_err(|error| {
            let help = "give a URL such as https://api.example.com/v1";
            unusable("spec.runtime.model.baseURL", &error, help)
        })?;
    let limits = &given.limits;
    let bound = |field, value: i32| {
        u32::try_from(value)
            .ok()
            .filter(|value| *value > 0)
            .ok_or_else(|| unusable(field, "the limit is not positive", "give a number of at least 1"))
    };
    let max_turns = bound("spec.runtime.limits.maxTurns", limits.max_turns)?;
    let seconds = bound("spec.runtime.limits.timeoutSeconds", limits.timeout_seconds)?;
    Ok(Config {
        max_turns,
        timeout: Duration::from_secs(seconds.into()),
        completions,
        agent: given.name,
        namespace: given.namespace,
        instructions: given.instructions,
        model: given.model.name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(base: &str, turns: i32, seconds: i32) -> AgentConfig {
        serde_json::from_value(serde_json::json!({
            "name": "a", "namespace": "n", "instructions": "",
            "model": {"baseURL": base, "name": "m"},
            "limits": {"maxTurns": turns, "timeoutSeconds": seconds},
        }))
        .unwrap()
    }

    #[test]
    fn fields() {
        let good = check(given("https://api.example.com/v1/", 3, 60)).unwrap();
        assert_eq!(good.completions, "https://api.example.com:443/v1/chat/completions");
        assert_eq!((good.max_turns, good.timeout), (3, Duration::from_secs(60)));
        for (config, field) in [
            (given("/v1", 3, 60), "spec.runtime.model.baseURL"),
            (given("ftp://api.example.com", 3, 60), "spec.runtime.model.baseURL"),
            (given("https://api example.com", 3, 60), "spec.runtime.model.baseURL"),
            (given("https://api.example.com", 0, 60), "spec.runtime.limits.maxTurns"),
            (given("https://api.example.com", 3, -1), "spec.runtime.limits.timeoutSeconds"),
        ] {
            assert_eq!(check(config).unwrap_err().field, field);
        }
    }
}
