//! Refuses at admission what the Rust types cannot represent.
//!
//! A stored object that cannot be decoded is not reconciled. So the schema of every kind is narrowed
//! here, in one place, after it was derived:
//!
//! - Integers get the bounds of their Rust type. The format `int32` alone does not bound a number on every server, and a
//!   number that may also be a string has no format at all.
//! - Nothing is nullable. The API server then treats null as a missing field, as it does in the built-in
//!   kinds, and sets the default: `maxSurge:` without a value, as templates leave it behind, means the
//!   default and not a third kind of value.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

/// Narrows the schemas of all versions to what the Rust types can represent.
pub(crate) fn narrow(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let schemas = crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
    schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()).for_each(narrow_schema);
    crd
}

fn narrow_schema(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if holds_int32(schema) {
        let (least, most) = (f64::from(i32::MIN), f64::from(i32::MAX));
        schema.minimum = Some(schema.minimum.map_or(least, |minimum| minimum.max(least)));
        schema.maximum = Some(schema.maximum.map_or(most, |maximum| maximum.min(most)));
    }
    within(schema).into_iter().for_each(narrow_schema);
}

/// Whether numbers of it are decoded into 32 bits.
fn holds_int32(schema: &JSONSchemaProps) -> bool {
    let int_or_string = schema.x_kubernetes_int_or_string == Some(true);
    let int32 = schema.type_.as_deref() == Some("integer") && schema.format.as_deref() == Some("int32");
    int32 || int_or_string
}

/// The schemas of what lies directly within. No other keyword than these holds any in a structural schema.
fn within(schema: &mut JSONSchemaProps) -> Vec<&mut JSONSchemaProps> {
    let mut inner: Vec<_> =
        schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).collect();
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => inner.push(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => inner.extend(items),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        inner.push(values);
    }
    inner
}
