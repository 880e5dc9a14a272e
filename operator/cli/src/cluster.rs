//! Which cluster and namespace a command speaks of: the flags that kubectl itself has.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::error::Error;

/// Flags of every command.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Path of the kubeconfig; KUBECONFIG and ~/.kube/config unless given.
    #[arg(long, global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; the current one unless given.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// Namespace; that of the context unless given.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
}

impl Args {
    /// The namespace of objects in files that name none: that of the flag, else `default`. No kubeconfig is read.
    ///
    /// # Errors
    /// When it is not a name.
    pub fn offline_namespace(&self) -> Result<String, Error> {
        let namespace = self.namespace.clone().unwrap_or_else(|| "default".to_owned());
        check_name(&namespace)?;
        Ok(namespace)
    }
}

/// A cluster and a namespace in it.
#[derive(Clone)]
pub struct Cluster {
    /// Client of the API server.
    pub client: Client,
    /// Namespace.
    pub namespace: String,
}

impl Cluster {
    /// The cluster that flags and kubeconfig name. Nothing is sent yet.
    ///
    /// # Errors
    /// When there is no usable kubeconfig, or the namespace is not a name.
    pub async fn connect(args: &Args) -> Result<Self, Error> {
        let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
        let unusable = |error: kube::config::KubeconfigError| Error::Kubeconfig(Box::new(error));
        let mut config = match &args.kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).map_err(unusable)?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable)?
            }
            None => Config::from_kubeconfig(&options).await.map_err(unusable)?,
        };
        // A task may have effects: it is sent once, and the person decides about a second time.
        config.default_retry = false;
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        check_name(&namespace)?;
        let client = Client::try_from(config).map_err(|error| Error::Kubeconfig(Box::new(error)))?;
        Ok(Self { client, namespace })
    }
}

/// Checks a name before it becomes a part of a URL: a DNS label, or several joined by dots.
///
/// # Errors
/// When it is not one.
pub fn check_name(name: &str) -> Result<(), Error> {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if name.len() <= 253 && name.split('.').all(label) { Ok(()) } else { Err(Error::Name(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "a-1", "a.b"] {
            check_name(good).unwrap();
        }
        for bad in ["", "A", "a/b", "..", "a.", "-a", "a-", "a b", "a%2fb", "ä", "https:a"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
