//! Scripts that are sourced before the start, so that their exports reach the application.

use super::Image;
use crate::config::foreign::Surroundings;
use crate::config::layers::Layer;

/// The script of an image that names no other.
const USUAL: &str = "prestart.sh";

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
    let named = around.environment.raw("PRE_START_PATH");
    let file = named.filter(|file| !file.is_empty());
    let file = file.unwrap_or_else(|| USUAL.to_owned());
    match around.kind(&file).is_some_and(|kind| kind.is_file) {
        true => vec![file],
        false => Vec::new(),
    }
}
