//! One line of the list of open grants, as the guard `redoubt-agent-pod-access` reads it.

use std::fmt;

/// A pod that is open, or whose end is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub uid: String,
    /// Who is let in; nobody any more when its end is under way.
    pub user: Option<String>,
}

impl Entry {
    /// The entry with this text. Namespace, pod and UID have no slash in them; the user is all that follows.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '/').map(str::to_owned);
        let entry =
            Self { namespace: parts.next()?, pod: parts.next()?, uid: parts.next()?, user: parts.next() };
        Some(entry)
    }

    /// The same, with nobody let in.
    #[must_use]
    pub fn closed(&self) -> Self {
        Self { user: None, ..self.clone() }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.pod, self.uid)?;
        self.user.as_ref().map_or(Ok(()), |user| write!(f, "/{user}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_it_writes() {
        let check = |text: &str, user: Option<&str>| {
            let entry = Entry::parse(text).unwrap();
            assert_eq!((entry.namespace.as_str(), entry.pod.as_str(), entry.uid.as_str()), ("n", "p", "u"));
            assert_eq!(entry.user.as_deref(), user);
            assert_eq!(entry.to_string(), text);
        };
        check("n/p/u/alice", Some("alice"));
        check("n/p/u/https://issuer.example#alice/bob", Some("https://issuer.example#alice/bob"));
        check("n/p/u", None);
        assert_eq!(Entry::parse("n/p/u/alice").unwrap().closed().to_string(), "n/p/u");
        assert_eq!(Entry::parse("n/p"), None);
    }
}
