//! The egress sidecar: the only process of the pod with a network.
//! Entry point.

use std::process::ExitCode;

use clap::Parser as _;
use redoubt_egress::config::{Args, Config};
use redoubt_egress::{Egress, Seams, process};
use redoubt_policy::Refusal;
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .json()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::new(
            "info,hickory_proto=error,hickory_resolver=error",
        ))
        .init();
    let ran = process::harden().map_err(|error| fatal("HardeningFailed", error)).and_then(|()| {
        let config = Config::try_from(Args::parse()).map_err(|error| fatal("ArgumentsInvalid", error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.map_err(|error| fatal("RuntimeFailed", error))?.block_on(run(config))
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            process::report(&refusal);
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), Refusal> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| fatal("RuntimeFailed", error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| fatal("RuntimeFailed", error))?;
    let egress = tokio::select! {
        started = Egress::start(config, Seams::system()?) => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    egress
        .run(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await;
    Ok(())
}

fn fatal(reason: &str, error: impl std::fmt::Display) -> Refusal {
    Refusal::new(reason, "Pod", "", error.to_string(), "Look at the log of the egress container.")
}
