//! What an in-place update needs to know of two templates.

use mainstay_crds::PodTemplate;
use serde_json::{Map, Value};

/// A container and the image that it is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) container: String,
    pub(crate) image: String,
}

/// The containers whose image differs, where nothing else does: only images can be changed in a pod that runs.
/// `None` where something else differs too, or nothing.
pub(crate) fn changed(old: &PodTemplate, new: &PodTemplate) -> Option<Vec<Image>> {
    if old.metadata != new.metadata || without_images(&old.spec) != without_images(&new.spec) {
        return None;
    }
    let pairs = containers(&old.spec).zip(containers(&new.spec));
    let changed = pairs.filter(|(old, new)| old.get("image") != new.get("image"));
    let text = |new: &Value, field| new.get(field)?.as_str().map(str::to_owned);
    let image = |(_, new): (&Value, &Value)| {
        Some(Image { container: text(new, "name")?, image: text(new, "image")? })
    };
    changed.map(image).collect::<Option<Vec<_>>>().filter(|changed| !changed.is_empty())
}

fn containers(spec: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    spec.get("containers").and_then(Value::as_array).into_iter().flatten()
}

fn without_images(spec: &Map<String, Value>) -> Map<String, Value> {
    let mut spec = spec.clone();
    let containers = spec.get_mut("containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
        container.remove("image");
    }
    spec
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(label: &str, images: &[&str], cpu: u32) -> PodTemplate {
        let containers = images.iter().enumerate().map(|(index, image)| {
            json!({"name": format!("c{index}"), "image": image, "resources": {"requests": {"cpu": cpu}}})
        });
        let spec = json!({"containers": containers.collect::<Vec<_>>()});
        serde_json::from_value(json!({"metadata": {"labels": {"app": label}}, "spec": spec})).unwrap()
    }

    #[test]
    fn only_images_that_differ_are_named() {
        let (old, new) = (template("a", &["x:1", "y:1"], 1), template("a", &["x:1", "y:2"], 1));
        assert_eq!(changed(&old, &new), Some(vec![Image { container: "c1".into(), image: "y:2".into() }]));
    }

    #[test]
    fn any_other_difference_rules_a_change_in_place_out() {
        let old = template("a", &["x:1"], 1);
        for new in [
            template("a", &["x:1"], 1),
            template("b", &["x:2"], 1),
            template("a", &["x:2"], 2),
            template("a", &["x:2", "y:1"], 1),
        ] {
            assert_eq!(changed(&old, &new), None, "{new:?}");
        }
    }
}
