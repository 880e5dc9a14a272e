//! The command line, parsed once into what the jail needs to know.

use clap::Parser;
use std::path::PathBuf;

/// Starts a command in the jail: no internet sockets, no files but those named, no way to more rights.
#[derive(Debug, Parser)]
#[command(name = "redoubt-jail", version)]
pub struct Args {
    /// Unix socket of the egress sidecar: where the nonce comes from and the verdict goes to.
    #[arg(long, value_name = "SOCK", required_unless_present = "self_test")]
    pub verdict: Option<PathBuf>,
    /// A directory or file the command may read and write. May be given more than once.
    #[arg(long, value_name = "PATH")]
    pub allow_write: Vec<PathBuf>,
    /// A directory or file the command may read. May be given more than once.
    #[arg(long, value_name = "PATH")]
    pub allow_read: Vec<PathBuf>,
    /// Only try every way out and print what happened: no sidecar, no command. Exits with 1 if one was open.
    #[arg(long, conflicts_with_all = ["verdict", "command"])]
    pub self_test: bool,
    /// The command, an absolute path, and its arguments.
    #[arg(last = true, required_unless_present = "self_test")]
    pub command: Vec<String>,
}
