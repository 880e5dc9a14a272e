//! The scenarios, each on what the one before it left.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ApiResource;
use kube::runtime::watcher;
use kube::{Client, ResourceExt as _};
use redoubt_crds::names;
use serde_json::Value;

use super::audit::{AuditLog, Requests};
use super::process::Measured;
use super::report::{Report, percentile};
use super::seen::{Seen, condition};
use super::sidecars::Sidecars;
use super::{Failure, floor, load};

const SIMULATED: &str = "nodes and pods (kwok): every container is started and ready at once; no kubelet, no sidecar, no Vault. \
    Real: etcd, API server with Redoubt's admission policies, controller manager, scheduler, operator";
/// What the operator says when a sidecar has acknowledged something new.
const ACKNOWLEDGED: &str = "a sidecar reports";
/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(1800);

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Scenario {
    /// 1,000 Agents at a steady rate.
    Create,
    /// 5,000 Agents and nothing to do.
    Idle,
    /// One change that touches 5,000 Agents.
    Change,
    /// Restart with 10,000 Agents.
    Restart,
    /// All of them, in this order.
    All,
}

/// How to measure.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The scenarios.
    #[arg(value_enum, default_values_t = [Scenario::All])]
    pub scenarios: Vec<Scenario>,
    /// How many Agents in place of each scenario's own number.
    #[arg(long)]
    pub agents: Option<usize>,
    /// Agents per second in `create`.
    #[arg(long, default_value_t = 50)]
    pub rate: u32,
    /// Agents per second where they are only to be there.
    #[arg(long, default_value_t = 100)]
    pub fill_rate: u32,
    /// Length of `idle`.
    #[arg(long, default_value_t = 600)]
    pub idle_seconds: u64,
    /// Commit, for the report.
    #[arg(long, default_value = "unknown")]
    pub commit: String,
    /// The operator's program.
    #[arg(long)]
    pub operator: PathBuf,
    /// Its kubeconfig.
    #[arg(long)]
    pub operator_kubeconfig: PathBuf,
    /// The floor's program.
    #[arg(long)]
    pub floor: PathBuf,
    /// Its kubeconfig.
    #[arg(long)]
    pub floor_kubeconfig: PathBuf,
    /// The API server's audit log.
    #[arg(long)]
    pub audit_log: PathBuf,
    /// Folder for logs.
    #[arg(long)]
    pub logs: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Operator,
    Floor,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Floor => "floor",
        }
    }

    fn account(self) -> &'static str {
        match self {
            Self::Operator => names::OPERATOR_ACCOUNT,
            Self::Floor => "bench-floor",
        }
    }
}

/// One of the two that are measured, and its objects.
struct Subject {
    who: Who,
    resource: ApiResource,
    object: fn(&str) -> Value,
    programmed: Seen,
    /// The operator: Ready. The floor: as above.
    settled: Seen,
    process: Measured,
    starts: usize,
    made: usize,
    extra: usize,
}

/// A run.
pub struct Bench {
    config: kube::Config,
    client: Client,
    options: Options,
    audit: AuditLog,
    report: Report,
}

impl Bench {
    /// A run on the cluster of `config`.
    ///
    /// # Errors
    /// When the audit log cannot be read.
    pub fn new(config: kube::Config, options: Options) -> Result<Self, Failure> {
        let client = Client::try_from(config.clone())?;
        let audit = AuditLog::open(options.audit_log.clone())?;
        let report = Report {
            commit: options.commit.clone(),
            machine: machine()?,
            simulated: SIMULATED,
            figures: Vec::new(),
        };
        Ok(Self { config, client, options, audit, report })
    }

    /// Measures.
    ///
    /// # Errors
    /// When something did not come about at all; what merely took long is in the report.
    pub async fn run(mut self) -> Result<Report, Failure> {
        load::prepare(&self.client).await?;
        let mut both = [self.subject(Who::Floor)?, self.subject(Who::Operator)?];
        for subject in &both {
            subject.process.at_rest(LIMIT).await?;
        }
        let wanted = |scenario| {
            self.options.scenarios.contains(&scenario) || self.options.scenarios.contains(&Scenario::All)
        };
        let [create, idle, change, restart] =
            [Scenario::Create, Scenario::Idle, Scenario::Change, Scenario::Restart].map(wanted);
        let scale = |own: usize| self.options.agents.unwrap_or(own);
        let (small, middle, large) = (scale(1000), scale(5000), scale(10_000));
        if create {
            for subject in &mut both {
                self.create(subject, small).await?;
            }
        }
        if idle || change {
            self.grow(&mut both, middle).await?;
        }
        if idle {
            self.idle(&both).await?;
        }
        if change && let [_, operator] = &mut both {
            self.change(operator).await?;
        }
        if restart {
            self.grow(&mut both, large).await?;
            for subject in both {
                self.restart(subject).await?;
            }
        } else {
            for subject in both {
                subject.process.stop().await?;
            }
        }
        Ok(self.report)
    }

    fn subject(&self, who: Who) -> Result<Subject, Failure> {
        let process = self.start(who, 0)?;
        let (resource, object): (_, fn(&str) -> Value) = match who {
            Who::Operator => (load::agents(), load::agent),
            Who::Floor => (floor::resource(), load::floor_object),
        };
        let watch = |kind: &'static str| {
            Seen::watch(self.client.clone(), &resource, watcher::Config::default(), move |o| {
                condition(o, kind)
            })
        };
        let programmed = watch("Programmed");
        let settled = if who == Who::Operator { watch("Ready") } else { programmed.clone() };
        Ok(Subject { who, object, programmed, settled, process, starts: 1, made: 0, extra: 0, resource })
    }

    fn start(&self, who: Who, number: usize) -> Result<Measured, Failure> {
        let o = &self.options;
        let log = o.logs.join(format!("{}-{number}.log", who.name()));
        match who {
            Who::Operator => {
                Measured::start(&o.operator, &["--health", "127.0.0.1:18080"], &o.operator_kubeconfig, log)
            }
            Who::Floor => Measured::start(&o.floor, &[], &o.floor_kubeconfig, log),
        }
    }

    /// The requests since the last call; the log may be a moment late.
    async fn requests(&mut self, who: Who) -> Result<Requests, Failure> {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(self.audit.since()?.remove(who.account()).unwrap_or_default())
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    async fn create(&mut self, subject: &mut Subject, count: usize) -> Result<(), Failure> {
        let (scenario, name) = ("create", subject.who.name());
        subject.process.forget_peak()?;
        let before = subject.process.cpu()?;
        self.audit.since()?;
        let range = (subject.made, subject.made + count);
        let made =
            load::fill(&self.client, &subject.resource, range, self.options.rate, subject.object).await?;
        subject.made = range.1;
        let total = subject.made + subject.extra;
        subject.programmed.wait(total, LIMIT).await?;
        subject.settled.wait(total, LIMIT).await?;
        subject.process.at_rest(LIMIT).await?;
        let mut took: Vec<f64> = made
            .iter()
            .filter_map(|(key, asked)| Some(subject.programmed.at(key)?.duration_since(*asked).as_secs_f64()))
            .collect();
        let goal = (subject.who == Who::Operator).then_some(1.0);
        self.report.add(scenario, name, "Agents", count as f64, None);
        self.report.add(scenario, name, "create to Programmed, p50, s", percentile(&mut took, 0.5), None);
        self.report.add(scenario, name, "create to Programmed, p99, s", percentile(&mut took, 0.99), goal);
        self.report.add(scenario, name, "processor time, s", subject.process.cpu()? - before, None);
        self.report.add(scenario, name, "memory at most, MB", subject.process.memory()?.1, None);
        let requests = self.requests(subject.who).await?;
        let goal = (subject.who == Who::Operator).then_some(10.0);
        let each = |n: u64| n as f64 / count as f64;
        self.report.add(scenario, name, "writes per object", each(requests.written()), goal);
        for (kind, n) in &requests.writes {
            self.report.add(scenario, name, format!("  {kind}, per object"), each(*n), None);
        }
        self.report.add(scenario, name, "reads per object", each(requests.reads), None);
        self.refused(scenario, name, &requests.refused);
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    fn refused(&mut self, scenario: &'static str, name: &'static str, refused: &BTreeMap<u16, u64>) {
        for (code, n) in refused {
            self.report.add(scenario, name, format!("requests answered with {code}"), *n as f64, None);
        }
    }

    async fn grow(&mut self, both: &mut [Subject; 2], count: usize) -> Result<(), Failure> {
        for subject in both {
            if subject.made < count {
                let range = (subject.made, count);
                load::fill(&self.client, &subject.resource, range, self.options.fill_rate, subject.object)
                    .await?;
                subject.made = count;
            }
            subject.settled.wait(subject.made + subject.extra, LIMIT).await?;
            subject.process.at_rest(LIMIT).await?;
        }
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    async fn idle(&mut self, both: &[Subject; 2]) -> Result<(), Failure> {
        let scenario = "idle";
        self.audit.since()?;
        let state =
            |subject: &Subject| Ok::<_, Failure>((subject.process.cpu()?, subject.process.memory()?.0));
        let before = both.iter().map(state).collect::<Result<Vec<_>, _>>()?;
        tokio::time::sleep(Duration::from_secs(self.options.idle_seconds)).await;
        let mut all = self.audit.since()?;
        for (subject, (cpu, memory)) in both.iter().zip(before) {
            let (name, now) = (subject.who.name(), state(subject)?);
            let goal = |goal| (subject.who == Who::Operator).then_some(goal);
            let requests = all.remove(subject.who.account()).unwrap_or_default();
            let seconds = self.options.idle_seconds as f64;
            self.report.add(scenario, name, "objects", subject.made as f64, None);
            self.report.add(scenario, name, "seconds", seconds, None);
            // Whoever leads renews its Lease every three seconds.
            let renewals: u64 =
                requests.writes.iter().filter(|(kind, _)| kind.ends_with("leases")).map(|(_, n)| n).sum();
            let others = requests.written().saturating_sub(renewals);
            self.report.add(scenario, name, "writes, the Lease aside", others as f64, goal(0.0));
            self.report.add(scenario, name, "writes of the Lease", renewals as f64, None);
            self.report.add(
                scenario,
                name,
                "processor, %",
                (now.0 - cpu) * 100.0 / seconds.max(1.0),
                goal(2.0),
            );
            self.report.add(scenario, name, "memory, MB", now.1, None);
            self.report.add(scenario, name, "memory grown, MB", now.1 - memory, None);
            self.refused(scenario, name, &requests.refused);
        }
        Ok(())
    }

    /// A sidecar for each pod, once the operator knows them all.
    async fn sidecars(&self) -> Result<Sidecars, Failure> {
        let folder = self.options.logs.join("sidecars");
        let nodes = |node: &str| {
            let mut config = self.config.clone();
            config.auth_info.impersonate = Some(format!("system:node:{node}"));
            config.auth_info.impersonate_groups = Some(vec!["system:nodes".to_owned()]);
            Ok(Client::try_from(config)?)
        };
        Sidecars::start(&self.client, nodes, &folder).await
    }

    /// Creates `count` Agents one after the other and gives how long each took until Programmed.
    async fn latencies(&self, subject: &mut Subject, count: usize) -> Result<Vec<f64>, Failure> {
        let mut made = Vec::new();
        for _ in 0..count {
            let name = format!("extra{}", subject.extra);
            let object = (subject.object)(&name);
            made.push(load::create(&self.client, &subject.resource, subject.extra, &name, object).await?);
            subject.extra += 1;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let mut took = Vec::new();
        for (key, asked) in made {
            let deadline = Instant::now() + LIMIT;
            let seen = loop {
                match subject.programmed.at(&key) {
                    Some(at) => break at,
                    None if Instant::now() > deadline => {
                        return Err(format!("{key} was never Programmed").into());
                    }
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            took.push(seen.duration_since(asked).as_secs_f64());
        }
        Ok(took)
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    async fn change(&mut self, operator: &mut Subject) -> Result<(), Failure> {
        let (scenario, name) = ("change", operator.who.name());
        let sidecars = self.sidecars().await?;
        operator.process.at_rest(LIMIT).await?;
        let mut calm = self.latencies(operator, 8).await?;
        operator.settled.wait(operator.made + operator.extra, LIMIT).await?;
        operator.process.at_rest(LIMIT).await?;
        self.audit.since()?;
        operator.process.forget_peak()?;
        let before = operator.process.cpu()?;
        let since =
            SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?.as_millis();
        let touched = operator.made + operator.extra;
        let since = u64::try_from(since).map_err(|error| error.to_string())?;
        let signed = Seen::watch(
            self.client.clone(),
            &ApiResource::erase::<ConfigMap>(&()),
            watcher::Config::default().labels(names::AGENT_LABEL),
            move |map| {
                let epoch = map.annotations().get("redoubt.dev/policy-epoch");
                epoch.and_then(|epoch| epoch.parse::<u64>().ok()).is_some_and(|epoch| epoch >= since)
            },
        );
        let acknowledged = operator.process.said(ACKNOWLEDGED)?;
        let began = Instant::now();
        load::ceiling(&self.client, "tracker.example.com").await?;
        let (sidecars, mut took) = sidecars.reached(since, began, LIMIT).await?;
        while operator.process.said(ACKNOWLEDGED)? < acknowledged + sidecars.count() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if began.elapsed() > LIMIT {
                return Err("not every acknowledgement was heard".into());
            }
        }
        let heard = began.elapsed().as_secs_f64();
        let mut meanwhile = self.latencies(operator, 8).await?;
        let last = signed.wait(touched + 8, LIMIT).await?;
        operator.process.at_rest(LIMIT).await?;
        let requests = self.requests(operator.who).await?;
        drop(sidecars);
        self.report.add(scenario, name, "sidecars that follow", took.len() as f64, None);
        self.report.add(
            scenario,
            name,
            "change to policy in force, p50, s",
            percentile(&mut took, 0.5),
            None,
        );
        self.report.add(
            scenario,
            name,
            "change to policy in force, last, s",
            percentile(&mut took, 1.0),
            None,
        );
        self.report.add(scenario, name, "change to last acknowledgement heard, s", heard, Some(5.0));
        self.report.add(scenario, name, "Agents touched", touched as f64, None);
        self.report.add(
            scenario,
            name,
            "change to last policy signed and stored, s",
            last.duration_since(began).as_secs_f64(),
            None,
        );
        self.report.add(
            scenario,
            name,
            "writes per Agent touched",
            requests.written() as f64 / touched as f64,
            None,
        );
        self.report.add(scenario, name, "processor time, s", operator.process.cpu()? - before, None);
        self.report.add(scenario, name, "memory at most, MB", operator.process.memory()?.1, None);
        let usual = percentile(&mut calm, 1.0);
        self.report.add(scenario, name, "new Agent at rest, slowest of 8, s", usual, None);
        self.report.add(
            scenario,
            name,
            "new Agent meanwhile, slowest of 8, s",
            percentile(&mut meanwhile, 1.0),
            Some(2.0 * usual),
        );
        self.refused(scenario, name, &requests.refused);
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    async fn restart(&mut self, mut subject: Subject) -> Result<(), Failure> {
        let (scenario, name) = ("restart", subject.who.name());
        let process = self.start_after(subject.process, subject.who, subject.starts).await?;
        subject.process = process;
        let began = subject.process.started;
        let mut wanted = None;
        let mut fresh = None;
        if subject.who == Who::Operator {
            while subject.process.said("at work")? == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if began.elapsed() > LIMIT {
                    return Err("the operator was never at work".into());
                }
            }
            self.report.add(scenario, name, "start to at work, s", began.elapsed().as_secs_f64(), None);
            fresh = Some(self.latencies(&mut subject, 8).await?);
            wanted = Some((60.0, 60.0 + 0.008 * (subject.made + subject.extra) as f64));
        }
        let rest = subject.process.at_rest(LIMIT).await?;
        let requests = self.requests(subject.who).await?;
        self.report.add(scenario, name, "objects", subject.made as f64, None);
        self.report.add(
            scenario,
            name,
            "start to rest, s",
            rest.duration_since(began).as_secs_f64(),
            wanted.map(|w| w.0),
        );
        self.report.add(scenario, name, "processor time, s", subject.process.cpu()?, None);
        self.report.add(
            scenario,
            name,
            "memory at most, MB",
            subject.process.memory()?.1,
            wanted.map(|w| w.1),
        );
        self.report.add(scenario, name, "memory at rest, MB", subject.process.memory()?.0, None);
        self.report.add(scenario, name, "writes", requests.written() as f64, None);
        if let Some(mut fresh) = fresh {
            let failed = subject.process.said("visit failed")? + subject.process.said("not applied")?;
            self.report.add(scenario, name, "failed visits", failed as f64, Some(0.0));
            self.report.add(
                scenario,
                name,
                "new Agent meanwhile, slowest of 8, s",
                percentile(&mut fresh, 1.0),
                Some(2.0),
            );
            // The eight new ones are written for, and nothing else may be.
            let restored = subject.process.said("\"restored\":true")?;
            let per_new = requests.written() as f64 / 8.0;
            self.report.add(scenario, name, "writes per new Agent", per_new, None);
            self.report.add(scenario, name, "unchanged objects written", restored as f64, Some(0.0));
        }
        self.refused(scenario, name, &requests.refused);
        subject.process.stop().await
    }

    async fn start_after(&mut self, old: Measured, who: Who, number: usize) -> Result<Measured, Failure> {
        old.stop().await?;
        self.audit.since()?;
        self.start(who, number)
    }
}

/// The processor and how many of it.
fn machine() -> Result<String, Failure> {
    let text = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown", |(_, name)| name.trim());
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    let count = std::thread::available_parallelism()?;
    Ok(format!("{count} x {model}, load before the run {load}"))
}
