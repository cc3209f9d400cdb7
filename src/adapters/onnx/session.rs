//! The risk model in ONNX Runtime: a few sessions, each with its watch. Expects a model that was checked before.

use crate::adapters::native::checked;
use crate::adapters::onnx::graph::CONTRIBUTIONS;
use crate::adapters::onnx::graph::INPUT;
use crate::adapters::onnx::graph::PROBABILITY;
use crate::adapters::onnx::runtime::Runtime;
use crate::adapters::onnx::watchdog::Watch;
use crate::adapters::onnx::watchdog::Watchdog;
use crate::domain::features::Feature;
use crate::domain::features::FeatureVector;
use crate::domain::risk::ModelOutput;
use crate::domain::time::Deadline;
use crate::flow::ports::ModelError;
use crate::flow::ports::ModelIdentity;
use crate::flow::ports::RiskModel;
use ort::logging::LogLevel;
use ort::memory::Allocator;
use ort::session::IoBinding;
use ort::session::Session;
use ort::session::SessionOutputs;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::Tensor;
use parking_lot::Mutex;
use parking_lot::MutexGuard;
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// A run that goes on for longer after its interruption will not end by itself.
const HANGS_AFTER: Duration = Duration::from_secs(1);

/// A model in ONNX Runtime. Every thread runs on a session of its own as long as there are as many; a thread that finds
/// all of them busy waits until its deadline.
pub struct OnnxModel {
    identity: ModelIdentity,
    slots: Vec<Mutex<Slot>>,
    watchdog: Watchdog,
}

/// A session with its input and outputs, allocated once.
struct Slot {
    session: Session,
    binding: IoBinding,
    input: Tensor<f32>,
}

impl OnnxModel {
    /// Opens `count` sessions (at least one) over the model in `bytes`. The error is what ONNX Runtime says.
    pub(super) fn open(
        runtime: &Runtime,
        bytes: &[u8],
        identity: ModelIdentity,
        count: usize,
    ) -> Result<Self, String> {
        let count = count.max(1);
        let slots = (0..count)
            .map(|_| Slot::open(runtime, bytes).map(Mutex::new))
            .collect::<Result<_, _>>()
            .map_err(|error| first_line(&error))?;
        let watchdog = Watchdog::start(count).map_err(|error| error.to_string())?;
        Ok(Self {
            identity,
            slots,
            watchdog,
        })
    }

    /// A free session, beginning with the one that this thread had the last time.
    fn claim(&self, deadline: Deadline) -> Result<(MutexGuard<'_, Slot>, &Watch), ModelError> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        let count = self.slots.len();
        let first = THREAD.try_with(|thread| thread % count).unwrap_or(0);
        loop {
            let watched = self.slots.iter().zip(self.watchdog.watches());
            for (slot, watch) in watched.cycle().skip(first).take(count) {
                if let Some(slot) = slot.try_lock() {
                    return Ok((slot, watch));
                }
            }
            if Instant::now() >= deadline.instant() {
                return Err(ModelError::Timeout);
            }
            thread::yield_now();
        }
    }
}

impl RiskModel for OnnxModel {
    fn run(&self, features: &FeatureVector, deadline: Deadline) -> Result<ModelOutput, ModelError> {
        let (mut slot, watch) = self.claim(deadline)?;
        let Slot {
            session,
            binding,
            input,
        } = &mut *slot;
        let (_, row) = input.extract_tensor_mut();
        // INVARIANT: both are as long as the schema; of different lengths `zip` would leave the rest as it was.
        row.iter_mut()
            .zip(features.as_slice())
            .for_each(|(slot, value)| *slot = *value);
        let armed = self.watchdog.arm(watch, deadline);
        let result = session
            .run_binding_with_options(binding, armed.options())
            .map(|outputs| read(&outputs));
        match (result, armed.was_interrupted()) {
            (Ok(output), _) => output,
            (Err(_), true) => Err(ModelError::Timeout),
            (Err(error), false) => Err(ModelError::Failed(first_line(&error))),
        }
    }

    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    fn hangs(&self) -> bool {
        self.watchdog
            .overrun()
            .is_some_and(|time| time >= HANGS_AFTER)
    }
}

impl fmt::Debug for OnnxModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnnxModel")
            .field("identity", &self.identity)
            .field("sessions", &self.slots.len())
            .finish_non_exhaustive()
    }
}

impl Slot {
    fn open(runtime: &Runtime, bytes: &[u8]) -> Result<Self, ort::Error> {
        let session = Session::builder(&runtime.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_parallel_execution(false)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_log_level(LogLevel::Error)?
            .commit_from_memory(bytes)?;
        let memory = Allocator::default();
        let input = Tensor::new(&memory, [1, Feature::COUNT])?;
        let mut binding = session.create_binding()?;
        binding.bind_input(INPUT, &input)?;
        binding.bind_output(PROBABILITY, Tensor::<f32>::new(&memory, [1_usize, 1])?)?;
        binding.bind_output(
            CONTRIBUTIONS,
            Tensor::<f32>::new(&memory, [1, Feature::COUNT])?,
        )?;
        Ok(Self {
            session,
            binding,
            input,
        })
    }
}

fn read(outputs: &SessionOutputs<'_>) -> Result<ModelOutput, ModelError> {
    let floats = |name: &str| {
        let tensor = outputs
            .get(name)
            .and_then(|value| value.try_extract_tensor::<f32>().ok());
        tensor.map(|(_, values)| values).ok_or(ModelError::Output)
    };
    let &[probability] = floats(PROBABILITY)? else {
        return Err(ModelError::Output);
    };
    let contributions = floats(CONTRIBUTIONS)?
        .try_into()
        .map_err(|_| ModelError::Output)?;
    checked(rounded(probability), contributions)
}

/// The vectorised sigmoid of ONNX Runtime may round to one step above 1: that is 1. Anything beyond stays wrong.
fn rounded(probability: f32) -> f32 {
    if probability > 1.0 && probability <= 1.0 + f32::EPSILON {
        1.0
    } else {
        probability
    }
}

/// What ONNX Runtime says, on one line and bounded.
fn first_line(error: &ort::Error) -> String {
    const CHARS_MAX: usize = 200;
    error
        .message()
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(CHARS_MAX)
        .collect()
}
