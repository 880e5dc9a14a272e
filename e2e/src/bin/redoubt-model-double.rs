//! A scripted language model behind OpenAI's chat completions API.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use redoubt_e2e::control;
use redoubt_e2e::model_double::{self, ModelDouble, Settings};
use redoubt_e2e::serve::{ServeError, asked_to_end, bind, read, tls_from_files};

/// A scripted language model behind OpenAI's chat completions API.
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
    /// File with the API key to require as a bearer token.
    #[arg(long)]
    api_key_file: Option<PathBuf>,
    /// A script, YAML or JSON; may be repeated.
    #[arg(long)]
    script: Vec<PathBuf>,
    /// A further model name that follows directives in the conversation; may be repeated.
    #[arg(long)]
    model: Vec<String>,
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
    let tls = tls_from_files(args.tls_cert.as_deref(), args.tls_key.as_deref(), &["h2", "http/1.1"])?;
    let mut scripts = Vec::new();
    for path in &args.script {
        let text = String::from_utf8(read(path)?);
        scripts.push(text.map_err(|error| ServeError::Setting(format!("{}: {error}", path.display())))?);
    }
    if let Some(path) = &args.api_key_file {
        read(path)?;
    }
    let settings = Settings { scripts, models: args.model, api_key_file: args.api_key_file };
    let double = Arc::new(ModelDouble::new(settings).map_err(ServeError::Setting)?);
    let (api, port) = (bind(args.listen).await?, bind(args.control).await?);
    tracing::info!(listen = %args.listen, control = %args.control, tls = tls.is_some(), "model double is ready");
    tokio::select! {
        () = model_double::serve(api, tls, double.clone()) => {}
        () = control::serve(port, double) => {}
        () = asked_to_end() => {}
    }
    Ok(())
}
