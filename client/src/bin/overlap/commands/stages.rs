//! `overlap stages`

use std::path::Path;

use overlap_client::{Stage, StageCategory};
use serde::Deserialize;

use super::{Context, failed, read_text};
use crate::{
    args::Stages,
    output::{Column, Value},
};

pub(super) async fn run(context: &mut Context, command: Stages) -> anyhow::Result<()> {
    let stages = match command {
        Stages::List => context.client().await?.stages().await?,
        Stages::Set {
            file: Some(file), ..
        } => {
            let stages = parse(&read_text(&file)?, &file)?;
            context.client().await?.upsert_stages(stages).await?
        }
        Stages::Set {
            id,
            label,
            ordinal,
            category,
            file: None,
        } => {
            let client = context.client().await?;
            let id = id.unwrap_or_default();
            let known = client.stages().await?;
            let next = known.iter().map(|stage| stage.ordinal + 1).max();
            // What is not said stays as it is; a new stage comes last.
            let mut stage = known
                .into_iter()
                .find(|stage| stage.id == id)
                .unwrap_or_else(|| Stage {
                    id,
                    ordinal: next.unwrap_or(1),
                    category: StageCategory::Open,
                    ..Stage::default()
                });
            stage.label = label.unwrap_or(stage.label);
            stage.ordinal = ordinal.unwrap_or(stage.ordinal);
            stage.category = category.unwrap_or(stage.category);
            client.upsert_stages(vec![stage]).await?
        }
    };
    let columns = [
        Column::text("id", |stage: &Stage| &stage.id),
        Column::text("label", |stage: &Stage| &stage.label),
        Column::number("ordinal", |stage: &Stage| {
            Value::Number(stage.ordinal.into())
        }),
        Column::new("category", |stage: &Stage| stage.category.name()),
    ];
    context.printer.list(
        &stages,
        &columns,
        "No stages yet: they come with \"overlap customers import\" or \"overlap stages set\".",
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StageFile {
    stages: Vec<StageEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StageEntry {
    id: String,
    #[serde(default)]
    label: String,
    ordinal: Option<u32>,
    #[serde(default)]
    category: CategoryName,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct CategoryName(StageCategory);

impl Default for CategoryName {
    fn default() -> Self {
        Self(StageCategory::Open)
    }
}

impl TryFrom<String> for CategoryName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        StageCategory::from_name(&name)
            .map(Self)
            .ok_or_else(|| format!("category \"{name}\" is none of OPEN, CUSTOMER, LOST, CHURNED"))
    }
}

fn parse(text: &str, path: &Path) -> anyhow::Result<Vec<Stage>> {
    let file: StageFile = toml::from_str(text).map_err(|error| {
        let place = error.span().map_or(String::new(), |span| {
            let before = text.get(..span.start).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
            format!("{line}:{column}: ")
        });
        failed(
            "INVALID_ARGUMENT",
            format!("{}:{place}{}", path.display(), error.message()),
        )
    })?;
    Ok((1..)
        .zip(file.stages)
        .map(|(position, entry)| Stage {
            id: entry.id,
            label: entry.label,
            ordinal: entry.ordinal.unwrap_or(position),
            category: entry.category.0,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use overlap_client::StageCategory;

    use super::parse;

    #[test]
    fn a_file_orders_its_stages() {
        let text = "[[stages]]\nid = \"Lead\"\n[[stages]]\nid = \"Won\"\ncategory = \"customer\"\n";
        let stages = parse(text, Path::new("s.toml")).unwrap();
        assert_eq!((&*stages[1].id, stages[1].ordinal), ("Won", 2));
        assert_eq!(stages[0].category, StageCategory::Open);
        assert_eq!(stages[1].category, StageCategory::Customer);
    }

    #[test]
    fn a_mistake_has_a_place() {
        let text = "[[stages]]\nid = \"Lead\"\ncategory = \"won\"\n";
        let error = parse(text, Path::new("s.toml")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "s.toml:3:12: category \"won\" is none of OPEN, CUSTOMER, LOST, CHURNED"
        );
    }
}
