//! Model files: manifest, golden vectors, and the graph that the native evaluator reads.

use riskgate::adapters::native::NativeModel;
use riskgate::adapters::onnx::manifest::Golden;
use riskgate::adapters::onnx::manifest::Manifest;
use riskgate::domain::features::Feature;
use riskgate::domain::features::FeatureVector;
use riskgate::domain::kind::RequestKind;
use riskgate::flow::ports::ModelIdentity;

/// A manifest or golden vectors.
pub(super) fn manifest(bytes: &[u8]) -> bool {
    let golden = Golden::parse(bytes);
    if let Ok(golden) = &golden {
        assert!(!golden.rows.is_empty());
        for row in &golden.rows {
            assert_eq!(row.features.len(), Feature::COUNT);
            assert_eq!(row.vector().as_slice().len(), Feature::COUNT);
        }
    }
    let manifest = Manifest::parse(&String::from_utf8_lossy(bytes));
    if let Ok(manifest) = &manifest {
        for name in manifest
            .models
            .iter()
            .flat_map(|model| [&model.file, &model.golden])
        {
            // No way out of the folder.
            assert!(
                !name.is_empty() && !name.contains(['/', '\\']) && name != "..",
                "{name}"
            );
        }
    }
    golden.is_ok() || manifest.is_ok()
}

/// An ONNX file.
pub(super) fn model(bytes: &[u8]) -> bool {
    let identity = ModelIdentity {
        version: "0.1.0".to_owned(),
        digest: String::new(),
    };
    let Ok(model) = NativeModel::from_bytes(bytes, RequestKind::Login, identity) else {
        return false;
    };
    let mut large = FeatureVector::missing();
    for feature in Feature::ALL {
        large.set(feature, 1e30);
    }
    for row in [FeatureVector::missing(), large] {
        if let Ok(output) = model.evaluate(&row) {
            let probability = output.score.probability();
            assert!((0.0..=1.0).contains(&probability), "{probability}");
            assert!(output.contributions.iter().all(|share| share.is_finite()));
        }
    }
    true
}
