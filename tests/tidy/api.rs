//! The description of the admin listener's API says what the code serves: the same paths with the same methods.

use crate::files::read;
use crate::files::sources;
use regex::Regex;
use serde_json::Value;
use std::collections::BTreeSet;

const FILE: &str = "docs/reference/admin-api.json";
/// Where routes for programs are declared; those of the console, in a folder of it, are pages.
const FOLDER: &str = "src/admin";

#[test]
fn the_description_has_the_routes_of_the_code() {
    let route =
        Regex::new(r#"\.route\(\s*"([^"]+)",\s*(get|post|put|delete|patch|any)\("#).unwrap();
    let mut served = BTreeSet::new();
    let inside = format!("{FOLDER}/console/");
    let sources = sources(FOLDER, &[".rs"]).into_iter();
    for source in sources.filter(|source| !source.path.starts_with(&inside)) {
        let (source, text) = (source.path, source.text);
        let found: Vec<_> = route.captures_iter(&text).collect();
        assert_eq!(
            found.len(),
            text.matches(".route(").count(),
            "{source} declares routes in another way"
        );
        served.extend(
            found
                .iter()
                .map(|found| (found[1].to_owned(), found[2].to_owned())),
        );
    }
    let description: Value = serde_json::from_str(&read(FILE)).unwrap();
    let mut described = BTreeSet::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            described.insert((path.clone(), method.clone()));
        }
    }
    assert!(served.len() > 10);
    assert_eq!(described, served);
}

#[test]
fn every_reference_of_the_description_is_there() {
    let text = read(FILE);
    let description: Value = serde_json::from_str(&text).unwrap();
    let reference = Regex::new(r##""\$ref": "#([^"]+)""##).unwrap();
    let mut seen = 0;
    for found in reference.captures_iter(&text) {
        assert!(description.pointer(&found[1]).is_some(), "{}", &found[1]);
        seen += 1;
    }
    assert!(seen > 10);
}
