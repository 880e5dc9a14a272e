//! A measured process: its processor time and memory, from the kernel.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use super::Failure;

/// Length of the kernel's tick in what it tells: always this.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process that is measured.
pub struct Measured {
    child: Child,
    pid: u32,
    log: PathBuf,
    /// When it was started.
    pub started: Instant,
}

impl Measured {
    /// Starts `program`; what it says goes to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        program: &Path,
        arguments: &[&str],
        kubeconfig: &Path,
        log: PathBuf,
    ) -> Result<Self, Failure> {
        let out = File::create(&log)?;
        let child = Command::new(program)
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .stdout(out.try_clone()?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let pid = child.id().ok_or("the process ended at once")?;
        Ok(Self { child, pid, log, started: Instant::now() })
    }

    /// Ends it as a kubelet would, and waits.
    ///
    /// # Errors
    /// When it has ended already.
    pub async fn stop(mut self) -> Result<(), Failure> {
        let pid =
            i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw).ok_or("no process")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.child.wait().await?;
        Ok(())
    }

    /// Processor time so far, in seconds.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu(&self) -> Result<f64, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let ticks: Vec<f64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
    }

    /// Memory now and at most since [`Self::forget_peak`], in MB (10⁶ bytes).
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory(&self) -> Result<(f64, f64), Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let field = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
            kib.unwrap_or_default() * 1024.0 / 1e6
        };
        Ok((field("VmRSS:"), field("VmHWM:")))
    }

    /// Begins the peak of memory anew.
    ///
    /// # Errors
    /// When it has ended.
    pub fn forget_peak(&self) -> Result<(), Failure> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.pid), "5")?)
    }

    /// Waits until it uses less than 3 % of a processor for three seconds; gives when that began.
    ///
    /// # Errors
    /// When it ends, or does not come to rest within `limit`.
    pub async fn at_rest(&self, limit: Duration) -> Result<Instant, Failure> {
        const WINDOW: Duration = Duration::from_secs(3);
        let deadline = Instant::now() + limit;
        let mut samples = vec![(Instant::now(), self.cpu()?)];
        while Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let (now, cpu) = (Instant::now(), self.cpu()?);
            samples.retain(|(at, _)| now.duration_since(*at) <= WINDOW + Duration::from_millis(250));
            samples.push((now, cpu));
            if let Some((at, before)) = samples.first()
                && now.duration_since(*at) >= WINDOW
                && cpu - before < 0.03 * WINDOW.as_secs_f64()
            {
                return Ok(*at);
            }
        }
        Err(format!("{} did not come to rest within {limit:?}", self.log.display()).into())
    }

    /// Lines of its log with `text`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn said(&self, text: &str) -> Result<usize, Failure> {
        Ok(fs::read_to_string(&self.log)?.lines().filter(|line| line.contains(text)).count())
    }
}
