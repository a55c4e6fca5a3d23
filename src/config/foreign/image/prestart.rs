//! Scripts that are sourced before the start, so that their exports reach the application.

use super::Image;
use crate::config::foreign::Surroundings;
use crate::config::layers::Layer;

/// The script of an image that names no other.
const USUAL: &str = "prestart.sh";
/// The variable that names another one.
pub(super) const VARIABLE: &str = "PRE_START_PATH";

/// The scripts in their order: those of the setting `prestart`, else the one of the image, if it is there.
pub fn files(layers: &[Layer], around: &Surroundings<'_>) -> Vec<String> {
    let named = layers.iter().find_map(|layer| layer.entry("prestart"));
    if let Some(entry) = named {
        return entry
            .values
            .iter()
            .filter(|file| !file.is_empty())
            .cloned()
            .collect();
    }
    if Image::of(layers) == Image::No {
        return Vec::new();
    }
    let file = around.environment.raw(VARIABLE);
    let file = file.unwrap_or_else(|| USUAL.to_owned());
    match is_there(&file, around) {
        true => vec![file],
        false => Vec::new(),
    }
}

/// The file that the variable of the image names, where it is used and not there.
pub(super) fn missing(layers: &[Layer], around: &Surroundings<'_>) -> Option<String> {
    let is_overridden = layers.iter().any(|layer| layer.entry("prestart").is_some());
    let named = around.environment.raw(VARIABLE);
    named.filter(|file| !is_overridden && !is_there(file, around))
}

fn is_there(file: &str, around: &Surroundings<'_>) -> bool {
    around.kind(file).is_some_and(|kind| kind.is_file)
}
