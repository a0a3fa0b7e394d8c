//! Events in the format of CNCF distribution, `application/vnd.docker.distribution.events.v2+json`, one in each envelope, as
//! distribution sends them.
//!
//! An event has `id`, `timestamp`, `action`, `target` (`mediaType`, `digest`, `size`, `length`, `repository`,
//! `fromRepository`, `url`, `tag`), `request` (`id`, `addr`, `host`, `method`, `useragent`), `actor` (`name`: the id of the
//! access key) and `source` (`addr`, `instanceID`). Fields that do not apply are left out; of what was deleted only
//! `repository` and `digest` or `tag` are told. A push that sets several tags is one event for each.
//!
//! Not here: who gets them, and when.

use bytes::Bytes;
use protocol::name::RepositoryName;
use serde::Serialize;

use crate::config::logs::EventKind;
use crate::seed::activity::{Activity, ActivityKind};

/// The media type of an envelope.
pub const MEDIA_TYPE: &str = "application/vnd.docker.distribution.events.v2+json";

/// The request that an event comes from.
#[derive(Clone, Debug, Serialize)]
pub struct Origin {
    /// Its id.
    pub id: String,
    /// The client's socket.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub addr: String,
    /// What the client calls this seed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Its method.
    pub method: String,
    /// What the client calls itself.
    pub useragent: String,
}

/// The seed that an event comes from.
#[derive(Clone, Debug, Serialize)]
pub struct Source {
    /// Where it listens.
    pub addr: String,
    /// Another one after each start.
    #[serde(rename = "instanceID")]
    pub instance: String,
}

#[derive(Serialize)]
struct Envelope<'a> {
    events: [Event<'a>; 1],
}

#[derive(Serialize)]
struct Event<'a> {
    id: String,
    timestamp: jiff::Timestamp,
    action: EventKind,
    target: Target<'a>,
    request: &'a Origin,
    actor: Actor<'a>,
    source: &'a Source,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Target<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    repository: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_repository: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
}

#[derive(Serialize)]
struct Actor<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

/// The event that an action is, if it is one.
pub const fn kind(action: ActivityKind) -> Option<EventKind> {
    Some(match action {
        ActivityKind::BlobPush | ActivityKind::ManifestPush => EventKind::Push,
        ActivityKind::BlobMount => EventKind::Mount,
        ActivityKind::BlobPull | ActivityKind::ManifestPull => EventKind::Pull,
        ActivityKind::BlobDelete | ActivityKind::ManifestDelete | ActivityKind::TagDelete => EventKind::Delete,
        _ => return None,
    })
}

/// The envelopes that tell of an activity; `url` is where the registry is found.
///
/// # Errors
/// When the system has no random numbers.
pub fn envelopes(
    activity: &Activity,
    time: jiff::Timestamp,
    actor: Option<&str>,
    request: &Origin,
    source: &Source,
    url: &str,
) -> Result<Vec<Bytes>, getrandom::Error> {
    let (Some(action), Some(repository)) = (kind(activity.action), &activity.repository) else { return Ok(Vec::new()) };
    let mut tags: Vec<Option<&str>> = activity.tags.iter().map(|tag| Some(tag.as_str())).collect();
    if tags.is_empty() {
        tags.push(None);
    }
    let kind_of_content = match activity.action {
        ActivityKind::ManifestPush | ActivityKind::ManifestPull => "manifests",
        _ => "blobs",
    };
    let mut envelopes = Vec::new();
    for tag in tags {
        let deleted =
            Target { digest: activity.digest.map(|digest| digest.to_string()), repository: repository.as_str(), tag, ..Target::default() };
        let target = match action {
            EventKind::Delete => deleted,
            EventKind::Push | EventKind::Mount | EventKind::Pull => Target {
                media_type: activity.media_type.as_deref(),
                size: activity.size,
                length: activity.size,
                from_repository: activity.from_repository.as_ref().map(RepositoryName::as_str),
                url: activity.digest.map(|digest| format!("{url}/v2/{repository}/{kind_of_content}/{digest}")),
                ..deleted
            },
        };
        let event = Event { id: uuid()?, timestamp: time, action, target, request, actor: Actor { name: actor }, source };
        envelopes.push(serde_json::to_vec(&Envelope { events: [event] }).unwrap_or_default().into());
    }
    Ok(envelopes)
}

/// A random UUID (RFC 9562 §5.4).
///
/// # Errors
/// When the system has no random numbers.
pub fn uuid() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

#[cfg(test)]
mod tests {
    use protocol::digest::Digest;
    use serde_json::{Value, json};

    use super::*;

    fn events(activity: &Activity) -> Vec<Value> {
        let origin = Origin {
            id: "r1".into(),
            addr: "192.0.2.1:5".into(),
            host: "seed.example".into(),
            method: "PUT".into(),
            useragent: "a \"b\" \\".into(),
        };
        let source = Source { addr: "127.0.0.1:5000".into(), instance: "i1".into() };
        let time = "2026-11-21T10:00:00Z".parse().unwrap();
        let envelopes = envelopes(activity, time, Some("00ff"), &origin, &source, "https://seed.example").unwrap();
        envelopes.iter().map(|bytes| serde_json::from_slice(bytes).unwrap()).collect()
    }

    #[test]
    fn a_push_has_the_documented_fields() {
        let digest = Digest::sha256(b"x");
        let push = Activity {
            tags: vec!["1.0".parse().unwrap()],
            media_type: Some("application/vnd.oci.image.manifest.v1+json".into()),
            ..Activity::in_repository(ActivityKind::ManifestPush, &"acme/web".parse().unwrap()).of_content(digest, 7)
        };
        let mut sent = events(&push);
        let id = sent[0]["events"][0]["id"].take();
        assert_eq!(id.as_str().unwrap().split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        let expected = json!({ "events": [{
            "id": null,
            "timestamp": "2026-11-21T10:00:00Z",
            "action": "push",
            "target": {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest.to_string(),
                "size": 7,
                "length": 7,
                "repository": "acme/web",
                "url": format!("https://seed.example/v2/acme/web/manifests/{digest}"),
                "tag": "1.0",
            },
            "request": { "id": "r1", "addr": "192.0.2.1:5", "host": "seed.example", "method": "PUT", "useragent": "a \"b\" \\" },
            "actor": { "name": "00ff" },
            "source": { "addr": "127.0.0.1:5000", "instanceID": "i1" },
        }] });
        assert_eq!(sent, [expected]);
    }

    #[test]
    fn each_tag_is_an_event_and_what_was_deleted_is_only_named() {
        let repository = "acme/web".parse().unwrap();
        let digest = Digest::sha256(b"x");
        let tags = vec!["1.0".parse().unwrap(), "latest".parse().unwrap()];
        let push = Activity { tags, ..Activity::in_repository(ActivityKind::ManifestPush, &repository).of_content(digest, 7) };
        let tags: Vec<Value> = events(&push).iter().map(|sent| sent["events"][0]["target"]["tag"].clone()).collect();
        assert_eq!(tags, ["1.0", "latest"]);
        let target = |activity: &Activity| events(activity)[0]["events"][0]["target"].clone();
        let delete = Activity { digest: Some(digest), ..Activity::in_repository(ActivityKind::ManifestDelete, &repository) };
        assert_eq!(target(&delete), json!({ "digest": digest.to_string(), "repository": "acme/web" }));
        let delete = Activity { tags: vec!["1.0".parse().unwrap()], ..Activity::in_repository(ActivityKind::TagDelete, &repository) };
        assert_eq!(target(&delete), json!({ "repository": "acme/web", "tag": "1.0" }));
        assert!(events(&Activity::new(ActivityKind::OrgCreate)).is_empty());
    }
}
