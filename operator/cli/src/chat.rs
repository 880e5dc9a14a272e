//! `kubectl redoubt chat AGENT`: sends messages to an agent and prints its answers as they come.
//!
//! The way is the API server's service proxy, so that nothing has to be exposed; the agent's sidecar lets in only callers
//! that the Agent lists, so a token of such a service account is asked for first.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cluster::{self, Cluster};
use crate::error::Error;
use crate::terminal::printable;

mod ask;
mod token;

use token::Caller;

/// Flags of `chat`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The agent.
    pub agent: String,
    /// Service account of the agent's namespace to call as; the first that the Agent's spec.callers lists unless given.
    #[arg(long)]
    pub service_account: Option<String>,
    /// Send this one message, print the answer and exit. Without it, messages are read line by line.
    #[arg(short, long)]
    pub message: Option<String>,
}

/// A conversation. The agent keeps none: each message is sent with all that came before.
struct Chat {
    cluster: Cluster,
    agent: String,
    caller: Caller,
    history: Vec<Value>,
    interrupt: Signal,
}

/// Runs the command.
///
/// # Errors
/// When the agent cannot be asked, or did not answer.
pub async fn run(cluster: &cluster::Args, args: Args) -> Result<(), Error> {
    cluster::check_name(&args.agent)?;
    let cluster = Cluster::connect(cluster).await?;
    let caller = Caller::find(&cluster, &args.agent, args.service_account).await?;
    let interrupt = signal(SignalKind::interrupt()).map_err(Error::Terminal)?;
    let mut chat = Chat { cluster, agent: args.agent, caller, history: Vec::new(), interrupt };
    match args.message {
        Some(message) => chat.send(message).await,
        None => chat.converse().await,
    }
}

impl Chat {
    async fn converse(&mut self) -> Result<(), Error> {
        let person = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        if person {
            write(&format!("Talking to {}. Ctrl-C cancels an answer, Ctrl-D ends.\n", self.agent))?;
        }
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Some(line) = self.line(&mut lines, person).await? {
            if line.trim().is_empty() {
                continue;
            }
            match self.send(line).await {
                Ok(()) => {}
                Err(Error::Interrupted) if person => write("(cancelled)\n")?,
                // A person reads the error and goes on; a script has to be told.
                Err(error) if person => {
                    write(&format!("error: {}\n", printable(&error.to_string())))?;
                    if let Some(help) = error.help() {
                        write(&format!("{}\n", printable(&help)))?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn line(
        &mut self,
        lines: &mut Lines<BufReader<Stdin>>,
        person: bool,
    ) -> Result<Option<String>, Error> {
        loop {
            if person {
                write("> ")?;
            }
            tokio::select! {
                line = lines.next_line() => return line.map_err(Error::Terminal),
                _ = self.interrupt.recv() => {
                    if !person {
                        return Err(Error::Interrupted);
                    }
                    write("\n(Ctrl-D ends)\n")?;
                }
            }
        }
    }

    /// Sends one message and prints the answer. What failed leaves no trace in the history.
    async fn send(&mut self, message: String) -> Result<(), Error> {
        self.history.push(json!({"role": "user", "content": message}));
        let mut answer = String::new();
        let ended = tokio::select! {
            ended = ask::ask(&self.cluster, &self.agent, &mut self.caller, &self.history, |text| {
                answer.push_str(text);
                write(&printable(text))
            }) => ended,
            _ = self.interrupt.recv() => Err(Error::Interrupted),
        };
        if !answer.ends_with('\n') && !answer.is_empty() {
            write("\n")?;
        }
        match ended {
            Ok(()) => {
                self.history.push(json!({"role": "assistant", "content": answer}));
                Ok(())
            }
            Err(error) => {
                self.history.pop();
                Err(error)
            }
        }
    }
}

fn write(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Terminal)
}
