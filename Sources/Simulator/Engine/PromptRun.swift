import OrderedCollections
import OrderedJSON

/// One execution of a prompt, from `execution_start` to the entry for the history, on the worker thread.
///
/// The order of what it sends is protocol section 8.1.
final class PromptRun {
    enum Ending {
        case finished(HistoryEntry)
        /// The worker raised outside of any node: its thread ends, the prompt stays "running" for ever (protocol section 13).
        case workerDied
        /// The simulator stops.
        case abandoned
    }

    let prompt: Prompt
    let services: RunServices
    private var graph: ExecutionGraph
    private var order = ExecutionOrder()
    private var progress: RunProgress
    private var throttles: [String: ProgressThrottle] = [:]
    /// Outputs of nodes whose subgraph still runs.
    private var expansions: [String: [Link]] = [:]
    /// What nodes of this run made or found, by id. The cache may be told to keep nothing.
    private var results: [String: ResultCache.Entry] = [:]
    private var executed: [String] = []
    private var outputs: JSONObject = [:]
    private var meta: JSONObject = [:]
    private var messages: [(name: String, data: JSONObject)] = []
    private var steps = 0

    init(_ prompt: Prompt, services: RunServices) {
        self.prompt = prompt
        self.services = services
        graph = ExecutionGraph(prompt.graph, catalog: services.catalog)
        progress = RunProgress(promptID: prompt.id)
    }

    func execute(_ cache: inout ResultCache) -> Ending {
        services.control.clearInterrupt()
        services.hub.setRunning(client: prompt.client, node: nil)
        defer { services.hub.setRunning(client: prompt.client, node: nil) }
        record("execution_start", [:], toAll: false)
        guard !prompt.killsWorker else { return .workerDied }
        do {
            try services.faults.reached(.start, prompt)
        } catch {
            return error is WorkerDied ? .workerDied : .abandoned
        }

        cache.prepare(prompt.graph, services: services)
        services.letters.keep(prompt.graph.keys)
        for id in prompt.graph.keys { results[id] = cache[id] }
        let cached = prompt.graph.keys.filter { results[$0] != nil }
        record("execution_cached", ["nodes": .array(cached.map(JSON.string))], toAll: false)

        var current = ""
        do {
            for id in prompt.outputs { order.add(id, graph: graph, isCached: isCached) }
            while !order.isEmpty {
                guard let id = order.next(graph: graph) else {
                    throw NodeFailure(type: "comfy_execution.graph.DependencyCycleError", message: "Dependency cycle detected")
                }
                current = id
                try execute(id, &cache)
            }
            if services.compatibility >= .v0_25_0 { announceIntermediates(among: cached) }
            try services.faults.reached(.success, prompt)
        } catch is Abandoned {
            return .abandoned
        } catch is WorkerDied {
            return .workerDied
        } catch is Interrupted {
            reportInterrupt(at: current)
            return .finished(entry(.interrupted))
        } catch {
            report(error as? NodeFailure ?? NodeFailure(message: "\(error)"), at: current)
            return .finished(entry(.error))
        }
        record("execution_success", [:], toAll: false)
        return .finished(entry(.success))
    }

    // MARK: Nodes

    private func isCached(_ id: String) -> Bool { results[id] != nil }

    private func execute(_ id: String, _ cache: inout ResultCache) throws {
        if let cached = results[id] {
            announce(cached, as: id)
        } else if let links = expansions.removeValue(forKey: id) {
            let values = links.map { link in results[link.node]?.values[link.slot] ?? .blocked(message: nil) }
            keep(ResultCache.Entry(values: values, ui: nil, meta: graph.identity(id).meta), of: id, &cache)
            executed.append(id)
        } else {
            guard try start(id, &cache) else { return }  // its subgraph comes first
            executed.append(id)
        }
        finishProgress(id)
        order.complete(id)
    }

    /// A selected output node whose result is known: `executed` with the old output, and no `executing`.
    private func announce(_ cached: ResultCache.Entry, as id: String) {
        // 0.25 forgets the results of one that nobody is told of.
        guard !prompt.client.isAbsent || services.compatibility >= .v0_33_0 else { return }
        sendExecuted(id, output: cached.ui)
        guard let ui = cached.ui else { return }
        outputs[id] = .object(ui)
        meta[id] = .object(cached.meta)
    }

    /// Cached nodes that show their result are announced when all others are done.
    private func announceIntermediates(among cached: [String]) {
        for id in cached where graph.classes[id]?.showsResult == true && outputs[id] == nil {
            if let entry = results[id], entry.ui != nil { announce(entry, as: id) }
        }
    }

    /// False when the node was replaced by a subgraph.
    private func start(_ id: String, _ cache: inout ResultCache) throws -> Bool {
        guard let nodeClass = graph.classes[id] else {
            throw NodeFailure(type: "KeyError", message: PythonText.repr(.string(graph.className(id))))
        }
        services.faults.tally.addNode()
        progress.start(graph.identity(id))
        sendProgressState()
        if !prompt.client.isAbsent {
            services.hub.setRunning(client: prompt.client, node: graph.realID(id))
            send("executing", ["node": .string(id), "display_node": .string(graph.realID(id)), "prompt_id": .string(prompt.id)])
        }
        try sendFaultyFrames(of: id)
        try services.faults.reached(.node, prompt)
        let inputs = try resolveInputs(of: id, nodeClass)
        try services.control.checkInterrupted()
        let result =
            try blockedResult(id, nodeClass, inputs)
            ?? nodeClass.behavior.run(
                NodeCall(nodeID: id, className: nodeClass.name, inputs: inputs, run: self))

        if let expansion = result.expansion {
            expand(id, expansion, &cache)
            return false
        }
        let entry = ResultCache.Entry(values: values(of: result, nodeClass, inputs), ui: result.ui, meta: graph.identity(id).meta)
        if let ui = result.ui {
            outputs[id] = .object(ui)
            meta[id] = .object(entry.meta)
            if !prompt.client.isAbsent { sendExecuted(id, output: ui) }
        }
        keep(entry, of: id, &cache)
        return true
    }

    /// What the next nodes get.
    private func values(of result: NodeResult, _ nodeClass: NodeClass, _ inputs: OrderedDictionary<String, NodeValue>) -> [NodeValue] {
        guard let input = nodeClass.behavior.handsOn, services.compatibility >= .v0_33_0, let value = inputs[input] else { return result.values }
        if case .blocked = value { return result.values }
        return [value]
    }

    private func keep(_ entry: ResultCache.Entry, of id: String, _ cache: inout ResultCache) {
        results[id] = entry
        cache[id] = entry
    }

    private func resolveInputs(of id: String, _ nodeClass: NodeClass) throws -> OrderedDictionary<String, NodeValue> {
        var inputs: OrderedDictionary<String, NodeValue> = [:]
        let given = graph.inputs(id)
        for (name, value) in given {
            let isDeclared = nodeClass.inputs.contains { $0.name == name }
            if let link = Link(value) {
                guard isDeclared else {
                    throw NodeFailure(type: "TypeError", message: "\(nodeClass.name).run() got an unexpected keyword argument '\(name)'")
                }
                let slot = link.slot < 0 ? link.slot + (results[link.node]?.values.count ?? 0) : link.slot
                if let values = results[link.node]?.values, values.indices.contains(slot) { inputs[name] = values[slot] }
            } else if isDeclared {
                inputs[name] = .plain(value)
            }
        }
        return inputs
    }

    /// A node with a blocked input does not run; what it would make is blocked without a message.
    private func blockedResult(_ id: String, _ nodeClass: NodeClass, _ inputs: OrderedDictionary<String, NodeValue>) -> NodeResult? {
        for value in inputs.values {
            guard case .blocked(let message) = value else { continue }
            if let message {
                services.hub.send(
                    "execution_error",
                    [
                        "prompt_id": .string(prompt.id), "node_id": .string(id), "node_type": .string(nodeClass.name),
                        "executed": .array(executed.map(JSON.string)), "exception_message": .string("Execution Blocked: \(message)"),
                        "exception_type": "ExecutionBlocked", "traceback": [], "current_inputs": [], "current_outputs": [],
                    ], to: .client(prompt.client))
            }
            return NodeResult(values: nodeClass.outputs.map { _ in .blocked(message: nil) })
        }
        return nil
    }

    private func expand(_ id: String, _ expansion: Expansion, _ cache: inout ResultCache) {
        graph.add(expansion.graph, parent: id)
        cache.addGenerated(expansion.graph, within: graph.nodes, services: services)
        expansions[id] = expansion.outputs
        for child in expansion.graph.keys where graph.isOutput(child) { order.add(child, graph: graph, isCached: isCached) }
        for link in expansion.outputs { order.block(id, by: link.node, graph: graph, isCached: isCached) }
    }

    // MARK: Progress

    func reportProgress(node: String, value: Int, maximum: Int, preview: Preview?) throws {
        steps += 1
        try services.faults.reached(.step(steps), prompt)
        if services.compatibility >= .v0_25_0 {
            let passes = throttles[node, default: ProgressThrottle()].passes(
                value: value, maximum: maximum, hasPreview: preview != nil, now: .now)
            guard passes else { return }
        }
        try services.control.checkInterrupted()
        progress.update(node, value: value, maximum: maximum)
        sendProgressState()
        let hasMetadata = try preview != nil && services.hub.supportsPreviewMetadata(prompt.client)
        if let preview, hasMetadata { services.hub.send(binary: try framed(preview, of: node), to: .client(prompt.client)) }
        services.hub.send(
            "progress", ["value": JSON(value), "max": JSON(maximum), "prompt_id": .string(prompt.id), "node": .string(node)],
            to: .client(prompt.client))
        if let preview, !hasMetadata {
            services.hub.send(binary: [0, 0, 0, 1, 0, 0, 0, preview.code] + (try preview.encode()), to: .client(prompt.client))
        }
    }

    /// Binary type 4: length and text of the metadata, then the file.
    func framed(_ preview: Preview, of node: String) throws -> [UInt8] {
        let identity = graph.identity(node)
        let metadata = PythonJSON.encode([
            "node_id": .string(node), "prompt_id": .string(prompt.id), "display_node_id": .string(identity.real),
            "parent_node_id": .optional(identity.parent), "real_node_id": .string(identity.real), "image_type": .string(preview.mediaType),
        ])
        var frame: [UInt8] = [0, 0, 0, 4]
        frame.append(bigEndian: UInt32(metadata.count))
        return frame + metadata + (try preview.encode())
    }

    private func finishProgress(_ id: String) {
        progress.finish(graph.identity(id))
        sendProgressState()
    }

    private func sendProgressState() { services.hub.send("progress_state", progress.json, to: .client(prompt.client)) }

    // MARK: For output nodes

    /// The text chunks of a saved picture: the graph as submitted and coerced, and each key of `extra_pnginfo`.
    private(set) lazy var pictureTexts: [(key: String, text: [UInt8])] =
        [("prompt", PythonJSON.encode(.object(prompt.graph)))]
        + (prompt.extraData["extra_pnginfo"]?.object ?? [:]).compactMap { key, value in
            key.utf8.allSatisfy { $0 > 0x1F && $0 < 0x7F } && !key.isEmpty ? (key, PythonJSON.encode(value)) : nil
        }

    /// Five letters in the names of a PreviewImage's files. They belong to the node object, which lives on in the next run of the same
    /// node.
    func letters(of id: String) -> String { services.letters.letters(of: id) }

    // MARK: Messages

    /// For the prompt's client; without a client id it goes to nobody.
    private func send(_ type: String, _ data: JSON) {
        guard !prompt.client.isAbsent else { return }
        services.hub.send(type, data, to: .client(prompt.client))
    }

    private func sendExecuted(_ id: String, output: JSONObject?) {
        send(
            "executed",
            [
                "node": .string(id), "display_node": .string(graph.realID(id)), "output": output.map(JSON.object) ?? .null,
                "prompt_id": .string(prompt.id),
            ])
    }

    /// An event that the history keeps. `toAll`: also without a client id, and then to everybody.
    private func record(_ type: String, _ data: JSONObject, toAll: Bool) {
        var data = data
        if data["prompt_id"] == nil { data["prompt_id"] = .string(prompt.id) }
        data["timestamp"] = JSON(services.faults.timestamp(prompt))
        messages.append((type, data))
        services.faults.sendFinal(type, prompt) {
            if toAll { services.hub.send(type, .object(data), to: .client(prompt.client)) } else { send(type, .object(data)) }
        }
    }

    private func reportInterrupt(at id: String) {
        let real = graph.realID(id)
        record(
            "execution_interrupted",
            [
                "prompt_id": .string(prompt.id), "node_id": .string(real), "node_type": .string(graph.className(real)),
                "executed": .array(executed.map(JSON.string)),
            ], toAll: true)
    }

    private func report(_ failure: NodeFailure, at id: String) {
        let real = graph.realID(id)
        let inputs = graph.classes[id].flatMap { try? resolveInputs(of: id, $0) } ?? [:]
        let shown = JSONObject(
            uniqueKeysWithValues: inputs.map { name, value in
                let json: JSON = if case .plain(let json) = value { json } else { .string(value.pythonText) }
                return (name, [json])
            })
        record(
            "execution_error",
            [
                "prompt_id": .string(prompt.id), "node_id": .string(real), "node_type": .string(graph.className(real)),
                "executed": .array(executed.map(JSON.string)), "exception_message": .string(failure.message + "\n" + failure.tips),
                "exception_type": .string(failure.type),
                "traceback": .array(traceback(failure).map(JSON.string)),
                "current_inputs": .object(shown), "current_outputs": .array(prompt.graph.keys.map(JSON.string)),
            ], toAll: false)
    }

    /// As long as real ones in kind: lines of the server's sources, with its paths.
    private func traceback(_ failure: NodeFailure) -> [String] {
        [
            "  File \"/opt/ComfyUI/execution.py\", line 542, in execute\n    output_data, output_ui, has_subgraph, has_pending_tasks = "
                + "await get_output_data(prompt_id, unique_id, obj, input_data_all, execution_block_cb=execution_block_cb)\n",
            "  File \"/opt/ComfyUI/nodes.py\", line 95, in run\n    raise \(failure.type)(message)\n",
        ]
    }

    // MARK: History

    /// 0.25 lists what ran or was announced; 0.3.64 every result with a `ui` that the cache holds for the graph.
    private func entry(_ outcome: HistoryEntry.Outcome) -> HistoryEntry {
        if services.compatibility == .v0_3_64 {
            for id in prompt.graph.keys where outputs[id] == nil {
                guard let ui = results[id]?.ui else { continue }
                outputs[id] = .object(ui)
                meta[id] = .object(graph.identity(id).meta)
            }
        }
        return HistoryEntry(prompt: prompt, outputs: .object(outputs), meta: meta, messages: messages, outcome: outcome)
    }
}
