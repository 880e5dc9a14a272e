//! Events, on changes only.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use redoubt_crds::names;
use tracing::warn;

/// Longest note of an event, in bytes (the API server allows 1024).
const NOTE_MAX: usize = 1000;

/// Writes events. One that cannot be written is logged and forgotten: nothing rests on events.
pub struct Events(Recorder);

impl Events {
    /// Events in the operator's name.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let reporter = Reporter { controller: names::OPERATOR_ACCOUNT.to_owned(), instance: None };
        Self(Recorder::new(client, reporter))
    }

    /// Something is as it should be.
    pub async fn normal<K: Resource<DynamicType = ()>>(
        &self,
        about: &K,
        reason: &str,
        action: &str,
        note: &str,
    ) {
        self.publish(EventType::Normal, about.object_ref(&()), reason, action, note).await;
    }

    /// Something needs attention.
    pub async fn warning<K: Resource<DynamicType = ()>>(
        &self,
        about: &K,
        reason: &str,
        action: &str,
        note: &str,
    ) {
        self.publish(EventType::Warning, about.object_ref(&()), reason, action, note).await;
    }

    async fn publish(&self, kind: EventType, about: ObjectReference, reason: &str, action: &str, note: &str) {
        let note = note.get(..note.floor_char_boundary(NOTE_MAX)).unwrap_or_default().to_owned();
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, &about).await {
            warn!(%error, reason, "event not written");
        }
    }
}
