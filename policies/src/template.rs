//! A tool's function as a template of HTTP requests.
//!
//! An argument fills exactly one segment of the path, one query parameter or one member of the JSON body, and cannot
//! change the structure around it: what a server might read as a separator or a dot segment is refused, all else is
//! percent-encoded (RFC 3986).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use redoubt_crds::HttpFunction;
use serde_json::{Map, Value};

use crate::base_url::{BaseUrl, BaseUrlError};
use crate::method::{Method, UnknownMethod};
use crate::path::{CanonicalPath, PathError, PathPattern};
use crate::target::{Source, Target};
use crate::wire::Scope;

/// Everything but RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One function of a Tool, ready to make requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    method: Method,
    target: Target,
    /// Canonical, without a trailing slash.
    base: String,
    segments: Vec<Segment>,
    query: Vec<String>,
    arguments: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Argument(String),
}

/// Deepest nesting of a function's parameters. Every reader of the policy has a limit, and none may be the first to meet it.
pub const DEPTH_MAX: usize = 32;

/// Why a function is not a usable template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TemplateError {
    #[error(transparent)]
    BaseUrl(#[from] BaseUrlError),
    #[error(transparent)]
    Method(#[from] UnknownMethod),
    #[error("a function's method is one of GET, HEAD, POST, PUT, PATCH, DELETE")]
    Options,
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("a path has literal segments and whole segments of the form {{argument}}")]
    Segment,
    #[error("the argument {0:?} is used twice in path and query")]
    UsedTwice(String),
    #[error("parameters is a JSON Schema with \"type\": \"object\"")]
    NotAnObject,
    #[error("the argument {0:?} of path or query is not among the properties of parameters")]
    Undeclared(String),
    #[error(
        "the argument {argument:?} has no place: a {method} request has no body, so name it in path or query"
    )]
    NoPlace { argument: String, method: Method },
    #[error("parameters refers to another document: {0:?}; only references that begin with '#' are allowed")]
    Reference(String),
    #[error("parameters is nested deeper than {DEPTH_MAX} levels")]
    Depth,
}

impl TemplateError {
    /// The field of the function that is wrong; `None` where it is the Tool's base URL.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::BaseUrl(_) => None,
            Self::Method(_) | Self::Options => Some("method"),
            Self::Path(_) | Self::Segment => Some("path"),
            Self::UsedTwice(_) => Some("query"),
            Self::NotAnObject
            | Self::Undeclared(_)
            | Self::NoPlace { .. }
            | Self::Reference(_)
            | Self::Depth => Some("parameters"),
        }
    }
}

/// Why arguments do not make a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ArgumentError {
    #[error("the function has no argument {0:?}")]
    Unknown(String),
    #[error("the argument {0:?} is missing")]
    Missing(String),
    #[error("the argument {0:?} is a string, number or boolean")]
    NotScalar(String),
    #[error(
        "the argument {0:?} is one segment of a path: it is neither empty nor '.' nor '..' and has no '/', '\\', ';', '%' or control character"
    )]
    Segment(String),
    #[error("the arguments make a path of more than {} bytes", crate::path::PATH_MAX)]
    Length,
}

/// A request that a function's arguments make.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionRequest {
    /// Method.
    pub method: Method,
    /// Scheme, host and port.
    pub target: Target,
    /// Path.
    pub path: CanonicalPath,
    /// Query without the question mark, percent-encoded.
    pub query: Option<String>,
    /// JSON object in the body; `None` where the method has no body.
    pub body: Option<Map<String, Value>>,
}

impl FunctionRequest {
    /// The absolute URL.
    #[must_use]
    pub fn url(&self) -> String {
        let mut url = format!("{}{}", self.target, self.path);
        if let Some(query) = &self.query {
            url.push('?');
            url.push_str(query);
        }
        url
    }
}

impl Template {
    /// The template of `function` in a Tool with this `baseURL`.
    ///
    /// # Errors
    /// When base URL, method, path, query or parameters are not acceptable.
    pub fn new(base_url: &str, function: &HttpFunction) -> Result<Self, TemplateError> {
        let base: BaseUrl = base_url.parse()?;
        let method: Method = function.method.parse()?;
        if method == Method::Options {
            return Err(TemplateError::Options);
        }
        let segments = parse_path(&function.path)?;
        let mut placed = BTreeSet::new();
        let in_path = segments.iter().filter_map(|segment| match segment {
            Segment::Argument(name) => Some(name),
            Segment::Literal(_) => None,
        });
        for name in in_path.chain(&function.query) {
            if !placed.insert(name.clone()) {
                return Err(TemplateError::UsedTwice(name.clone()));
            }
        }
        let arguments = declared(&function.parameters)?;
        if let Some(name) = placed.difference(&arguments).next() {
            return Err(TemplateError::Undeclared(name.clone()));
        }
        if let Some(name) = arguments.difference(&placed).next().filter(|_| !has_body(method)) {
            return Err(TemplateError::NoPlace { argument: name.clone(), method });
        }
        Ok(Self {
            method,
            target: base.target().clone(),
            base: base.path().to_owned(),
            segments,
            query: function.query.clone(),
            arguments,
        })
    }

    /// The requests that the function can make for `from`.
    ///
    /// # Errors
    /// When base and path together are too long.
    pub fn scope(&self, from: Source) -> Result<Scope, PathError> {
        let mut path = self.base.clone();
        for segment in &self.segments {
            path.push('/');
            path.push_str(match segment {
                Segment::Literal(text) => text,
                Segment::Argument(_) => "*",
            });
        }
        let path: PathPattern = path.parse()?;
        Ok(Scope {
            from,
            scheme: self.target.scheme,
            host: self.target.host.clone().into(),
            port: self.target.port,
            methods: self.method.into(),
            path,
        })
    }

    /// The request that `arguments` make.
    ///
    /// # Errors
    /// When an argument is unknown, missing in the path, or cannot stand in its place.
    pub fn request(&self, arguments: &Map<String, Value>) -> Result<FunctionRequest, ArgumentError> {
        if let Some(name) = arguments.keys().find(|name| !self.arguments.contains(*name)) {
            return Err(ArgumentError::Unknown(name.clone()));
        }
        let mut rest = arguments.clone();
        let mut path = self.base.clone();
        for segment in &self.segments {
            path.push('/');
            match segment {
                Segment::Literal(text) => path.push_str(text),
                Segment::Argument(name) => {
                    let value = rest.remove(name).ok_or_else(|| ArgumentError::Missing(name.clone()))?;
                    path.push_str(&encode_segment(name, &value)?);
                }
            }
        }
        let mut query = String::new();
        for name in &self.query {
            if let Some(value) = rest.remove(name) {
                let text = scalar(name, &value)?;
                let separator = if query.is_empty() { "" } else { "&" };
                let (name, text) = (utf8_percent_encode(name, ENCODED), utf8_percent_encode(&text, ENCODED));
                let _ = write!(query, "{separator}{name}={text}");
            }
        }
        Ok(FunctionRequest {
            method: self.method,
            target: self.target.clone(),
            path: path.parse().map_err(|_| ArgumentError::Length)?,
            query: (!query.is_empty()).then_some(query),
            body: has_body(self.method).then_some(rest),
        })
    }
}

fn has_body(method: Method) -> bool {
    matches!(method, Method::Post | Method::Put | Method::Patch)
}

fn parse_path(path: &str) -> Result<Vec<Segment>, TemplateError> {
    let rest = path.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
    let last = rest.split('/').count() - 1;
    rest.split('/')
        .enumerate()
        .map(|(i, text)| {
            if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
                let mut bytes = name.bytes();
                let starts = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
                return if starts && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                    Ok(Segment::Argument(name.to_owned()))
                } else {
                    Err(TemplateError::Segment)
                };
            }
            if text.is_empty() && i != last {
                return Err(PathError::EmptySegment.into());
            }
            crate::path::literal_segment(text)?;
            Ok(Segment::Literal(text.to_owned()))
        })
        .collect()
}

/// Names of the arguments that the schema declares.
fn declared(parameters: &Value) -> Result<BTreeSet<String>, TemplateError> {
    let schema = parameters
        .as_object()
        .filter(|schema| schema.get("type").and_then(Value::as_str) == Some("object"))
        .ok_or(TemplateError::NotAnObject)?;
    if !is_within(parameters, DEPTH_MAX) {
        return Err(TemplateError::Depth);
    }
    foreign_reference(parameters)?;
    match schema.get("properties") {
        None => Ok(BTreeSet::new()),
        Some(Value::Object(properties)) => Ok(properties.keys().cloned().collect()),
        Some(_) => Err(TemplateError::NotAnObject),
    }
}

/// Whether no more than `levels` arrays and objects are open at once.
fn is_within(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else { return !value.is_object() && !value.is_array() };
    match value {
        Value::Object(members) => members.values().all(|value| is_within(value, below)),
        Value::Array(items) => items.iter().all(|value| is_within(value, below)),
        _ => true,
    }
}

fn foreign_reference(schema: &Value) -> Result<(), TemplateError> {
    match schema {
        Value::Object(members) => members.iter().try_for_each(|(name, value)| match value {
            Value::String(to) if matches!(name.as_str(), "$ref" | "$dynamicRef") && !to.starts_with('#') => {
                Err(TemplateError::Reference(to.clone()))
            }
            other => foreign_reference(other),
        }),
        Value::Array(items) => items.iter().try_for_each(foreign_reference),
        _ => Ok(()),
    }
}

fn scalar(name: &str, value: &Value) -> Result<String, ArgumentError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(ArgumentError::NotScalar(name.to_owned())),
    }
}

fn encode_segment(name: &str, value: &Value) -> Result<String, ArgumentError> {
    let text = scalar(name, value)?;
    let splits = |c: char| matches!(c, '/' | '\\' | ';' | '%') || c.is_control();
    if matches!(text.as_str(), "" | "." | "..") || text.contains(splits) {
        return Err(ArgumentError::Segment(name.to_owned()));
    }
    Ok(utf8_percent_encode(&text, ENCODED).to_string())
}

#[cfg(test)]
mod tests;
