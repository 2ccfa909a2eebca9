//! Checks JSON against the schemas of our OpenAPI document: the part of JSON Schema that the
//! document uses. A keyword that is not known here fails the test instead of being passed over.

use serde_json::{Map, Value};

/// What is wrong with `value`, if anything. `document` is where `$ref` points into.
///
/// # Errors
/// Where it is not what `schema` says, with the place.
pub fn check(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let schema = schema.as_object().ok_or("a schema that is no object")?;
    for (keyword, argument) in schema {
        keyword_holds(document, schema, keyword, argument, value)
            .map_err(|reason| format!("{reason} in {value}"))?;
    }
    Ok(())
}

fn keyword_holds(
    document: &Value,
    schema: &Map<String, Value>,
    keyword: &str,
    argument: &Value,
    value: &Value,
) -> Result<(), String> {
    let demand = |holds: bool| {
        if holds {
            Ok(())
        } else {
            Err(format!("{keyword} {argument} does not hold"))
        }
    };
    match keyword {
        "title" | "description" | "example" | "default" => Ok(()),
        "$ref" => check(document, target(document, argument)?, value),
        "type" => {
            let is = |name: &Value| match name.as_str() {
                Some("object") => value.is_object(),
                Some("array") => value.is_array(),
                Some("string") => value.is_string(),
                Some("boolean") => value.is_boolean(),
                Some("number") => value.is_number(),
                Some("integer") => value.is_i64() || value.is_u64(),
                Some("null") => value.is_null(),
                _ => false,
            };
            demand(match argument.as_array() {
                Some(names) => names.iter().any(is),
                None => is(argument),
            })
        }
        "format" => demand(value.as_str().is_none_or(|text| has_format(argument, text))),
        "minimum" => demand(
            value
                .as_f64()
                .is_none_or(|value| Some(value) >= argument.as_f64()),
        ),
        "items" => value
            .as_array()
            .into_iter()
            .flatten()
            .try_for_each(|item| check(document, argument, item)),
        "oneOf" => {
            let fits = |schema: &&Value| check(document, schema, value).is_ok();
            demand(
                argument
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter(fits)
                    .count()
                    == 1,
            )
        }
        // Each part speaks of its own fields, and all fields are of one of them.
        "allOf" => {
            let mut unknown = value.as_object().cloned().unwrap_or_default();
            for part in argument.as_array().into_iter().flatten() {
                let own = resolve(document, part)["properties"].as_object();
                let own = own.ok_or("a part of allOf without properties")?;
                let fields = value.as_object().into_iter().flatten();
                let fields = fields.filter(|(name, _)| own.contains_key(*name));
                let fields: Map<String, Value> = fields
                    .map(|(name, field)| (name.clone(), field.clone()))
                    .collect();
                unknown.retain(|name, _| !own.contains_key(name));
                check(document, part, &Value::Object(fields))?;
            }
            let is_known = unknown.is_empty();
            is_known
                .then_some(())
                .ok_or(format!("unknown fields {unknown:?}"))
        }
        "required" => {
            let present = |name: &Value| value.get(name.as_str().unwrap_or_default()).is_some();
            demand(argument.as_array().into_iter().flatten().all(present))
        }
        // Stricter than JSON Schema: a field that the document does not have is not true to it.
        "properties" => value
            .as_object()
            .into_iter()
            .flatten()
            .try_for_each(|(name, field)| {
                let schema = argument.get(name).ok_or(format!("unknown field {name}"))?;
                check(document, schema, field).map_err(|reason| format!("{name}: {reason}"))
            }),
        "propertyNames" => value
            .as_object()
            .into_iter()
            .flatten()
            .try_for_each(|(name, _)| check(document, argument, &Value::String(name.clone()))),
        "additionalProperties" => others_hold(document, schema, argument, value),
        _ => Err(format!(
            "the keyword {keyword} of {schema:?} is not known here"
        )),
    }
}

/// Whether the fields that a schema does not name are as it says of the others.
fn others_hold(
    document: &Value,
    schema: &Map<String, Value>,
    argument: &Value,
    value: &Value,
) -> Result<(), String> {
    if !argument.is_object() {
        return Ok(());
    }
    let is_named = |name: &str| {
        let known = schema.get("properties");
        known.is_some_and(|known| known.get(name).is_some())
    };
    let fields = value.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| !is_named(name))
        .try_for_each(|(name, field)| {
            check(document, argument, field).map_err(|reason| format!("{name}: {reason}"))
        })
}

fn target<'a>(document: &'a Value, reference: &Value) -> Result<&'a Value, String> {
    let place = reference.as_str().and_then(|place| place.strip_prefix('#'));
    let target = place.and_then(|place| document.pointer(place));
    Ok(target.ok_or("a $ref to nowhere")?)
}

/// The schema itself where `schema` only points to it.
fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema
        .get("$ref")
        .map(|reference| target(document, reference));
    reference.and_then(Result::ok).unwrap_or(schema)
}

fn has_format(format: &Value, text: &str) -> bool {
    match format.as_str() {
        Some("date-time") => text.parse::<jiff::Timestamp>().is_ok(),
        Some("date") => text.parse::<jiff::civil::Date>().is_ok(),
        Some("uuid") => text.parse::<uuid::Uuid>().is_ok(),
        _ => false,
    }
}
