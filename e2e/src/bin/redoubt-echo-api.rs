//! An upstream that requires a credential, records what arrived, and misbehaves on demand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use redoubt_e2e::control;
use redoubt_e2e::echo_api::{self, Credential, EchoApi, Known};
use redoubt_e2e::serve::{ServeError, asked_to_end, bind, read, tls_from_files};

/// An upstream that requires a credential, records what arrived, and misbehaves on demand.
#[derive(Parser)]
struct Args {
    /// Address of the API.
    #[arg(long)]
    listen: SocketAddr,
    /// Address of the control port (plain HTTP); keep it away from agents.
    #[arg(long)]
    control: SocketAddr,
    /// Certificate chain, PEM; without it the API speaks plain HTTP.
    #[arg(long)]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate, PEM.
    #[arg(long)]
    tls_key: Option<PathBuf>,
    /// File with the credential to require.
    #[arg(long, required_unless_present = "token_sha256")]
    token_file: Option<PathBuf>,
    /// SHA-256 of the credential to require, in hex, so that the value itself is nowhere here.
    #[arg(long, conflicts_with = "token_file", value_parser = hash)]
    token_sha256: Option<Known>,
    /// Header that carries it: after "Bearer " in `authorization`, alone in any other.
    #[arg(long, default_value = "authorization")]
    header: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), ServeError> {
    let tls = tls_from_files(args.tls_cert.as_deref(), args.tls_key.as_deref(), &["http/1.1"])?;
    let known = match (args.token_sha256, args.token_file) {
        (Some(known), _) => known,
        (None, file) => {
            let file = file.unwrap_or_default();
            read(&file)?;
            Known::File(file)
        }
    };
    let api = Arc::new(EchoApi::new(Credential { known, header: args.header }));
    let (listener, port) = (bind(args.listen).await?, bind(args.control).await?);
    tracing::info!(listen = %args.listen, control = %args.control, tls = tls.is_some(), "echo API is ready");
    tokio::select! {
        () = echo_api::serve(listener, tls, api.clone()) => {}
        () = control::serve(port, api) => {}
        () = asked_to_end() => {}
    }
    Ok(())
}

fn hash(text: &str) -> Result<Known, String> {
    let byte = |i: usize| text.get(i..i + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let bytes: Option<Vec<u8>> = (0..64).step_by(2).map(byte).collect();
    bytes
        .filter(|_| text.len() == 64)
        .map(Known::Sha256)
        .ok_or_else(|| "64 hexadecimal digits are wanted".to_owned())
}
