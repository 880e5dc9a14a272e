//! The functions of a policy, ready to be called.

use std::collections::BTreeMap;

use redoubt_crds::HttpFunction;
use redoubt_policy::template::{FunctionRequest, Template};
use redoubt_policy::wire::{PodPolicy, Tool};
use redoubt_policy::{Refusal, VerifiedPolicy};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::schema::Schema;

/// What the model is told of a function.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// `TOOL__FUNCTION`.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// One function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Name of the Tool.
    pub tool: String,
    /// Most bytes of a response that are passed on.
    pub max_response_bytes: usize,
    /// The field of the Tool that defines it.
    field: String,
    template: Template,
    schema: Schema,
}

/// All functions of one policy, by the name that the model knows.
#[derive(Clone, Debug)]
pub struct Catalog {
    epoch: u64,
    /// A function that cannot be used is kept with what is wrong with it.
    functions: BTreeMap<String, Result<Function, Refusal>>,
    descriptions: Vec<Description>,
}

impl Catalog {
    /// The functions of `policy`.
    #[must_use]
    pub fn new(policy: &VerifiedPolicy) -> Self {
        Self::of(policy)
    }

    fn of(policy: &PodPolicy) -> Self {
        let mut catalog = Self { epoch: policy.epoch, functions: BTreeMap::new(), descriptions: Vec::new() };
        for tool in &policy.tools {
            for (index, function) in tool.http.functions.iter().enumerate() {
                catalog.add(tool, index, function);
            }
        }
        catalog
    }

    fn add(&mut self, tool: &Tool, index: usize, function: &HttpFunction) {
        let name = format!("{}__{}", tool.name, function.name);
        let ready = Function::new(tool, index, function);
        match &ready {
            Ok(_) => self.descriptions.push(Description {
                name: name.clone(),
                description: function.description.clone(),
                parameters: function.parameters.clone(),
            }),
            Err(refusal) => tracing::warn!(function = name, %refusal, "a function cannot be used"),
        }
        self.functions.insert(name, ready);
    }

    /// Epoch of the policy.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many functions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.functions.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// What the model is told.
    #[must_use]
    pub fn descriptions(&self) -> &[Description] {
        &self.descriptions
    }

    /// The function of exactly this name, byte for byte.
    ///
    /// # Errors
    /// When there is none, or it cannot be used.
    pub fn find(&self, name: &str) -> Result<&Function, Refusal> {
        match self.functions.get(name) {
            Some(Ok(function)) => Ok(function),
            Some(Err(refusal)) => Err(refusal.clone()),
            None => Err(Refusal::new(
                "UnknownFunction",
                "Agent",
                "spec.tools",
                format!("the agent has no function {:?}", crate::call::shown(name)),
                "use a name from the list of tools exactly as it is written there",
            )),
        }
    }
}

impl Function {
    fn new(tool: &Tool, index: usize, function: &HttpFunction) -> Result<Self, Refusal> {
        let field = format!("spec.http.functions[{index}]");
        let object = format!("Tool/{}", tool.name);
        let unusable = |field: String, message: String| {
            Refusal::new("FunctionUnusable", object.as_str(), field, message, "correct the Tool")
        };
        let template = Template::new(&tool.http.base_url, function).map_err(|error| {
            let place =
                error.field().map_or("spec.http.baseURL".to_owned(), |name| format!("{field}.{name}"));
            unusable(place, error.to_string())
        })?;
        let schema = Schema::compile(&function.parameters)
            .map_err(|error| unusable(format!("{field}.parameters"), error.to_string()))?;
        let max_response_bytes = usize::try_from(function.max_response_bytes)
            .map_err(|_| unusable(format!("{field}.maxResponseBytes"), "it is negative".to_owned()))?;
        Ok(Self { tool: tool.name.clone(), max_response_bytes, field, template, schema })
    }

    /// The request that `arguments` make.
    ///
    /// # Errors
    /// When the arguments do not fit the schema or the template.
    pub fn request(&self, name: &str, arguments: Map<String, Value>) -> Result<FunctionRequest, Refusal> {
        let invalid = |message: String| {
            Refusal::new(
                "InvalidArguments",
                format!("Tool/{}", self.tool),
                format!("{}.parameters", self.field),
                format!("{name}: {message}"),
                "call again with arguments that fit the function's parameters",
            )
        };
        let arguments = Value::Object(arguments);
        self.schema.check(&arguments).map_err(invalid)?;
        let Value::Object(arguments) = arguments else { return Err(invalid("not an object".to_owned())) };
        self.template.request(&arguments).map_err(|error| invalid(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn catalog() -> Catalog {
        let function = |name: &str, parameters: Value| {
            json!({"name": name, "description": "d", "effect": "Read", "method": "GET", "path": "/items/{id}",
                "query": [], "parameters": parameters, "maxResponseBytes": 10})
        };
        let good = json!({"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}});
        let mut remote = good.clone();
        remote["properties"]["id"] = json!({"$ref": "http://169.254.169.254/"});
        let tool: Tool = serde_json::from_value(json!({"name": "shop", "http": {
            "baseURL": "https://api.example.com/v1",
            "functions": [function("get", good), function("bad", remote)],
        }}))
        .unwrap();
        let mut catalog = Catalog { epoch: 1, functions: BTreeMap::new(), descriptions: Vec::new() };
        for (index, function) in tool.http.functions.iter().enumerate() {
            catalog.add(&tool, index, function);
        }
        catalog
    }

    #[test]
    fn names_are_exact() {
        let catalog = catalog();
        assert!(catalog.find("shop__get").is_ok());
        // The homoglyph is U+043E, a Cyrillic o.
        for name in
            ["", "get", "shop__", "Shop__get", "shop__get ", "sh\u{43e}p__get", "shop__GET", "shop_get"]
        {
            assert_eq!(catalog.find(name).unwrap_err().reason, "UnknownFunction", "{name}");
        }
    }

    #[test]
    fn a_broken_function_is_told_and_not_offered() {
        let catalog = catalog();
        let refusal = catalog.find("shop__bad").unwrap_err();
        assert_eq!((refusal.reason.as_str(), refusal.object.as_str()), ("FunctionUnusable", "Tool/shop"));
        assert_eq!(refusal.field, "spec.http.functions[1].parameters");
        let offered: Vec<_> = catalog.descriptions().iter().map(|function| function.name.as_str()).collect();
        assert_eq!(offered, ["shop__get"]);
    }

    #[test]
    fn requests() {
        let catalog = catalog();
        let function = catalog.find("shop__get").unwrap();
        let request = |arguments: Value| {
            function.request("shop__get", arguments.as_object().unwrap().clone()).map(|request| request.url())
        };
        assert_eq!(request(json!({"id": "a b"})).unwrap(), "https://api.example.com:443/v1/items/a%20b");
        for bad in [json!({}), json!({"id": 7}), json!({"id": "../admin"}), json!({"id": "a", "x": 1})] {
            let refusal = request(bad.clone()).unwrap_err();
            assert_eq!(
                (refusal.reason.as_str(), refusal.object.as_str()),
                ("InvalidArguments", "Tool/shop"),
                "{bad}"
            );
            assert!(refusal.message.starts_with("shop__get: "), "{refusal}");
        }
    }
}
