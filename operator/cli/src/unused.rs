//! `kubectl redoubt unused AGENT`: what the agent may do and has not done, as far as its sidecar's log goes back.

use futures::AsyncReadExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use redoubt_crds::names;
use redoubt_policy::VerifiedPolicy;
use serde::Serialize;

use crate::cluster::{self, Cluster};
use crate::error::Error;
use crate::logs::lines::Lines;
use crate::logs::record::Record;
use crate::output::{FINE, FOUND, Format, count, emit};
use crate::trial::held;

/// Flags of `unused`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The agent.
    pub agent: String,
    /// How the result is told.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    namespace: String,
    name: String,
    /// Time of the first record that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// Requests that were allowed in that time.
    requests: usize,
    /// Rules of the policy that allowed none of them.
    unused: Vec<Rule>,
    /// The others.
    used: Vec<Rule>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    from: String,
    request: String,
    granted_by: String,
    requests: usize,
}

/// Runs the command and gives its exit status: 1 where a rule was not used.
///
/// # Errors
/// When the agent's policy or its sidecar's log cannot be read.
pub async fn run(cluster: &cluster::Args, args: &Args) -> Result<u8, Error> {
    cluster::check_name(&args.agent)?;
    let cluster = Cluster::connect(cluster).await?;
    let (_, policy) = held(&cluster, &args.agent).await?;
    let records = records(&cluster, &names::child(&args.agent)).await?;
    let report = report(cluster.namespace.clone(), args.agent.clone(), &policy, &records);
    emit(args.output, &report, &human(&report))?;
    Ok(if report.unused.is_empty() { FINE } else { FOUND })
}

/// All records of the sidecar that the API server gives.
async fn records(cluster: &Cluster, pod: &str) -> Result<Vec<Record>, Error> {
    let params = LogParams { container: Some("egress".to_owned()), ..LogParams::default() };
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let failed = |error: &kube::Error| Error::cluster(format!("read the log of egress in Pod/{pod}"), error);
    let stream = pods.log_stream(pod, &params).await.map_err(|error| failed(&error))?;
    let mut stream = std::pin::pin!(stream);
    let (mut lines, mut buffer, mut all) = (Lines::default(), vec![0; 16 * 1024], Vec::new());
    loop {
        let read = stream.read(&mut buffer).await.map_err(|error| Error::Cut(Some(error.into())))?;
        let piece = buffer.get(..read).unwrap_or_default();
        all.extend(lines.feed(piece).iter().filter_map(|line| Record::parse(line)));
        if piece.is_empty() {
            return Ok(all);
        }
    }
}

fn report(namespace: String, name: String, policy: &VerifiedPolicy, records: &[Record]) -> Report {
    let asked: Vec<_> = records.iter().filter_map(Record::allowed_request).collect();
    let told = policy.rules.iter().map(|rule| Rule {
        from: rule.scope.from.to_string(),
        request: rule.scope.to_string(),
        granted_by: rule.grant.to_string(),
        requests: asked.iter().filter(|asked| rule.scope.matches(&asked.request())).count(),
    });
    let (used, unused) = told.partition(|rule| rule.requests > 0);
    let since = records.first().map(|record| record.time().to_owned());
    Report { namespace, name, since, requests: asked.len(), unused, used }
}

fn human(report: &Report) -> String {
    let since = report.since.as_deref().map_or_else(String::new, |since| format!(" since {since}"));
    let mut text = format!(
        "Agent {}/{}: {} allowed{since}, which is as far as the log of its sidecar goes back\n",
        report.namespace,
        report.name,
        count(report.requests, "request")
    );
    for (head, rules) in [("not used in that time", &report.unused), ("used", &report.used)] {
        if rules.is_empty() {
            continue;
        }
        text.push_str(&format!("{head}:\n"));
        for rule in rules {
            text.push_str(&format!("  {}: {} ({})", rule.from, rule.request, rule.granted_by));
            text.push_str(&if rule.requests > 0 {
                format!(" {}\n", count(rule.requests, "request"))
            } else {
                "\n".to_owned()
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use redoubt_policy::{SigningKey, sign, verify};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn rules_that_allowed_nothing() {
        let rule = |from: Value, host: &str, path: &str, grant: &str| {
            json!({"scope": {"from": from, "scheme": "https", "host": host, "port": 443, "methods": ["GET"], "path": path},
                "need": {"object": "Tool/t", "field": "spec"}, "grant": {"object": grant, "field": "spec.allow[0]"},
                "privateCIDRs": []})
        };
        let policy = json!({
            "agent": {"namespace": "team", "name": "helper", "uid": "u"}, "epoch": 1,
            "rules": [rule(json!("agent"), "a.example", "/v1/**", "EgressPolicy/a"),
                rule(json!({"tool": "t"}), "a.example", "/v1/**", "EgressPolicy/b"),
                rule(json!("agent"), "*.b.example", "/", "EgressPolicy/c")],
            "denies": [], "audit": {"ceilings": [], "denies": []},
            "explanation": {"needs": [], "grants": [], "ceilings": [], "selectedBy": []}, "bindings": [], "vaults": [],
            "inbound": {"callers": [], "issuer": "", "audience": "", "jwks": {"keys": []}}, "tools": [],
        });
        let policy = serde_json::from_value::<redoubt_policy::wire::PodPolicy>(policy).unwrap();
        let key = SigningKey::from_pkcs8(&SigningKey::generate().unwrap()).unwrap();
        let envelope = sign(&policy, &key).unwrap();
        let policy = verify(envelope.as_bytes(), &key.public(), &policy.agent, 0).unwrap();
        let record = |event: &str, decision: &str, source: &str, host: &str, path: &str| {
            let line = json!({"time": "2026-01-02T03:04:05Z", "event": event, "decision": decision, "source": source,
                "method": "GET", "scheme": "https", "host": host, "port": 443, "path": path});
            Record::parse(&line.to_string()).unwrap()
        };
        let records = [
            record("policy", "allow", "", "", ""),
            record("request", "allow", "Agent", "a.example", "/v1/x"),
            record("request", "allow", "Agent", "a.example", "/v1/y"),
            // None of these is a request that was allowed.
            record("request", "refuse", "Tool/t", "a.example", "/v1/x"),
            record("lease", "allow", "Tool/t", "a.example", "/v1/x"),
            record("request", "allow", "agent", "x.b.example", "/"),
            record("request", "allow", "Agent", "x.b.example", "/../"),
        ];
        let told = report("team".to_owned(), "helper".to_owned(), &policy, &records);
        let grants = |rules: &[Rule]| rules.iter().map(|rule| rule.granted_by.clone()).collect::<Vec<_>>();
        assert_eq!(grants(&told.unused), ["EgressPolicy/b spec.allow[0]", "EgressPolicy/c spec.allow[0]"]);
        assert_eq!(
            (grants(&told.used), told.used[0].requests),
            (vec!["EgressPolicy/a spec.allow[0]".to_owned()], 2)
        );
        assert_eq!((told.requests, told.since.as_deref()), (2, Some("2026-01-02T03:04:05Z")));
        assert!(
            human(&told)
                .contains("not used in that time:\n  Tool/t: GET https://a.example/v1/** (EgressPolicy/b")
        );
    }
}
