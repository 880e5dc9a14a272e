//! Makes a CA and server certificates into a folder: `ca.pem`, and `<server>.pem` and `<server>.key` for each server.
//!
//! The CA's key is thrown away. When the folder already holds the result of the same command, nothing is changed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use redoubt_e2e::testing::Ca;

/// Makes a CA and server certificates into a folder.
#[derive(Parser)]
struct Args {
    /// The folder; made when missing.
    #[arg(long)]
    out: PathBuf,
    /// A server and its DNS names or IP addresses, `NAME=DNS[,DNS...]`; may be repeated.
    #[arg(long, required = true)]
    server: Vec<String>,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args = Args::parse();
    match run(&args) {
        Ok(message) => {
            tracing::info!(folder = %args.out.display(), "{message}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(folder = %args.out.display(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<&'static str, Box<dyn std::error::Error>> {
    let mut servers = Vec::new();
    for server in &args.server {
        let (name, names) =
            server.split_once('=').ok_or_else(|| format!("--server {server}: needs NAME=DNS"))?;
        if name.is_empty() || name == "ca" || name.contains(['/', '.']) {
            return Err(format!("--server {server}: {name:?} cannot be the name of a file here").into());
        }
        servers.push((name, names.split(',').collect::<Vec<_>>()));
    }
    // Written last: without it the folder is not complete.
    let record = args.out.join("servers.txt");
    let wanted = args.server.join("\n") + "\n";
    let mut files = servers.iter().flat_map(|(name, _)| [format!("{name}.pem"), format!("{name}.key")]);
    let complete = args.out.join("ca.pem").exists() && files.all(|file| args.out.join(file).exists());
    if complete && fs::read_to_string(&record).is_ok_and(|made| made == wanted) {
        return Ok("certificates are there already");
    }
    fs::create_dir_all(&args.out)?;
    if record.exists() {
        fs::remove_file(&record)?;
    }
    let ca = Ca::new("Redoubt test CA")?;
    write(&args.out.join("ca.pem"), &ca.pem(), 0o644)?;
    for (name, names) in &servers {
        let made = ca.server(names)?;
        write(&args.out.join(format!("{name}.pem")), &made.cert_pem, 0o644)?;
        write(&args.out.join(format!("{name}.key")), &made.key_pem, 0o600)?;
    }
    write(&record, &wanted, 0o644)?;
    Ok("certificates made")
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    if path.exists() {
        fs::remove_file(path)?;
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
}
