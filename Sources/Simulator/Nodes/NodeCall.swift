import OrderedCollections
import OrderedJSON

/// One execution of a node, on the worker thread: its inputs, and what it may do to the world.
struct NodeCall {
    let nodeID: String
    let className: String
    /// Declared inputs, links resolved.
    let inputs: OrderedDictionary<String, NodeValue>
    let run: PromptRun

    var services: RunServices { run.services }

    // MARK: Inputs

    func images(_ name: String) throws -> [Picture] {
        if case .images(let pictures)? = inputs[name] { return pictures }
        throw unexpected(name)
    }

    func latent(_ name: String) throws -> Latent {
        if case .latent(let latent)? = inputs[name] { return latent }
        throw unexpected(name)
    }

    func value(_ name: String) throws -> NodeValue {
        guard let value = inputs[name] else { throw unexpected(name) }
        return value
    }

    func json(_ name: String) -> JSON? {
        if case .plain(let json)? = inputs[name] { json } else { nil }
    }

    func text(_ name: String) throws -> String {
        guard let json = json(name) else { throw unexpected(name) }
        return PythonText.str(json)
    }

    func int(_ name: String) throws -> Int {
        guard let value = json(name)?.int else { throw unexpected(name) }
        return value
    }

    func float(_ name: String) throws -> Double {
        guard let value = json(name)?.double else { throw unexpected(name) }
        return value
    }

    /// What a person wrote into the prompt, a model's name …
    func label(_ name: String) throws -> String {
        switch try value(name) {
        case .model(let text), .clip(let text), .vae(let text), .conditioning(let text): text
        case .plain(let json): PythonText.str(json)
        case .images, .masks, .latent, .blocked: throw unexpected(name)
        }
    }

    private func unexpected(_ name: String) -> NodeFailure {
        NodeFailure(type: "TypeError", message: "\(className) cannot use its input '\(name)'")
    }

    // MARK: Effects

    /// Reports a step; polls the interrupt flag.
    func progress(_ value: Int, of maximum: Int, preview: Preview? = nil) throws {
        try run.reportProgress(node: nodeID, value: value, maximum: maximum, preview: preview)
    }

    /// Waits, and leaves at once when the prompt is interrupted.
    func pause(_ duration: Duration, interruptible: Bool = true) throws {
        try services.control.pause(duration, interruptible: interruptible)
    }

    /// Binary type 3 in the layout of both versions: node id, then text, no prompt id.
    func sendProgressText(_ text: String, toAll: Bool) {
        var bytes: [UInt8] = [0, 0, 0, 3]
        bytes.append(bigEndian: UInt32(nodeID.utf8.count))
        bytes += nodeID.utf8
        bytes += text.utf8
        services.hub.send(binary: bytes, to: toAll ? .all : .client(run.prompt.client))
    }

    /// The generated id of a node in this node's expansion; `number` counts from 1.
    func childID(_ number: Int) -> String { "\(nodeID).0.0.\(number)" }
}

/// A picture that goes with a progress report. Made only when it is sent.
struct Preview {
    enum Format { case jpeg, png }

    let format: Format
    let encode: () throws -> [UInt8]

    var mediaType: String {
        switch format {
        case .jpeg: "image/jpeg"
        case .png: "image/png"
        }
    }

    /// The code of binary type 1.
    var code: UInt8 {
        switch format {
        case .jpeg: 1
        case .png: 2
        }
    }
}
