import OrderedJSON

/// What travels along a link.
enum NodeValue: Sendable {
    case images([Picture])
    case masks([Picture])
    case latent(Latent)
    case model(String)
    case clip(String)
    case vae(String)
    case conditioning(String)
    /// Widgets' kinds: INT, FLOAT, STRING, BOOLEAN and choices.
    case plain(JSON)
    /// An execution blocker; a node that gets one does not run. With a message it is reported once (protocol section 6).
    case blocked(message: String?)

    /// How Python prints it, for `current_inputs` and PreviewAny.
    var pythonText: String {
        switch self {
        case .images(let pictures), .masks(let pictures): PythonText.tensor(pictures)
        case .latent(let latent): "{'samples': tensor(size=[\(latent.batch), 4, \(latent.height / 8), \(latent.width / 8)])}"
        case .model(let name): "<comfy.model_patcher.ModelPatcher object: \(name)>"
        case .clip(let name): "<comfy.sd.CLIP object: \(name)>"
        case .vae(let name): "<comfy.sd.VAE object: \(name)>"
        case .conditioning(let text): "[[tensor(size=[1, 77, 768]), {'text': \(PythonText.repr(.string(text)))}]]"
        case .plain(let json): PythonText.str(json)
        case .blocked: "<comfy_execution.graph.ExecutionBlocker object>"
        }
    }
}

/// A latent stands for the pictures that a decoder would make of it.
struct Latent: Sendable {
    /// In pixels of the decoded picture.
    let width: Int
    let height: Int
    let batch: Int
    let content: Content

    enum Content: Sendable {
        case empty
        case pictures([Picture])
        /// `denoise` below 1 keeps that share of `base` out.
        case scene(Scene, base: [Picture]?, denoise: Float)
    }
}

/// A node raised.
struct NodeFailure: Error, Sendable {
    /// Python's class name, e.g. `RuntimeError`.
    let type: String
    let message: String
    /// What ComfyUI adds behind the message.
    let tips: String

    init(type: String = "RuntimeError", message: String, tips: String = "") {
        self.type = type
        self.message = message
        self.tips = tips
    }
}

/// The interrupt flag was seen.
struct Interrupted: Error {}

/// The process ends in the middle of something; nothing is reported any more.
struct Abandoned: Error {}

/// The worker raised outside of any node.
struct WorkerDied: Error {}
