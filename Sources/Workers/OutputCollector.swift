import ComfyUI
import FoundationEssentials
import Jobs
import Logging
import NIOCore
import OrderedCollections
import OrderedJSON
import Wording
import Workflow

/// Turns what a run left behind into outputs of its job: looks up the true size and type of files, writes to disk what
/// exists nowhere else, and publishes each as soon as it is known. One per run; used from one task.
struct OutputCollector: Sendable {
    enum Item: Sendable {
        case node(Execution.NodeOutput)
        case captured(node: String, contentType: String, image: ByteBuffer)
    }

    let job: Job
    let client: ComfyUIClient
    let assets: AssetService
    let logger: Logger

    private let workflow: Workflow
    private var seen: Set<Name> = []
    private var capturedCount = 0
    private(set) var publishedCount = 0
    /// Files that ComfyUI named and does not have.
    private(set) var missing: OrderedSet<FileReference> = []
    /// The first captured result that could not be written.
    private var unwritten: String?

    /// Why there is nothing to show for a run that succeeded.
    var failure: JobError? {
        guard publishedCount == 0 else { return nil }
        return unwritten.map(JobError.unwritable) ?? missing.first.map { .missingOutput($0.filename) }
    }

    init(job: Job, client: ComfyUIClient, assets: AssetService, logger: Logger) {
        self.job = job
        self.client = client
        self.assets = assets
        self.logger = logger
        workflow = job.submission.workflow
        for output in job.outputs { note(output) }
    }

    /// An adopted job has what the bridge before this one collected; ComfyUI will name it again.
    private mutating func note(_ output: Output) {
        publishedCount += 1
        switch output.asset.blob.source {
        case .comfyUI(let file): seen.insert(Self.key(output.node, FileReference(file)))
        case .text(let text): seen.insert(Self.key(output.node, text, index: Self.number(ofText: output.name, node: output.node) - 1))
        case .stored: capturedCount += 1
        }
    }

    private static func key(_ node: String, _ file: FileReference) -> Name { "\(node)/\(file.type)/\(file.subfolder)/\(file.filename)" }
    private static func key(_ node: String, _ text: String, index: Int) -> Name { "\(node)/text/\(index)/\(text)" }
    private static func name(ofText number: Int, node: String) -> String { "\(node)-\(number).txt" }
    private static func number(ofText name: String, node: String) -> Int { Int(name.dropFirst(node.count + 1).dropLast(4)) ?? 0 }

    mutating func collect(_ item: Item) async {
        switch item {
        case .node(let output): await collect(output)
        case .captured(let node, let contentType, let image): await capture(node: node, contentType: contentType, image: image)
        }
    }

    private mutating func collect(_ node: Execution.NodeOutput) async {
        let result = NodeResult(node.output)
        let isNew = result.items.map { item -> Bool in
            switch item.content {
            case .file(let places): return !places.contains { seen.contains(Self.key(node.node, $0)) } && seen.insert(Self.key(node.node, places[0])).inserted
            case .text(let text, let number): return seen.insert(Self.key(node.node, text, index: number)).inserted
            }
        }
        let items = zip(result.items, isNew).enumerated().filter { $0.element.1 }.map { (index: $0.offset, item: $0.element.0) }
        await publish(items, of: node)
        let hasOutputs = result.items.contains { if case .file(let places) = $0.content { !missing.contains(places[0]) } else { true } }
        if !result.others.isEmpty { job.addOther(.object(result.others), node: node.node) }
        if hasOutputs, node.isReused { job.markReusedOutputs() }
    }

    private typealias Found = (file: FileReference, info: FileInfo)

    /// Files that ComfyUI is asked about at the same time: as many connections as the client keeps to one ComfyUI.
    private static let lookUps = 8

    /// Publishes them in their order, each as soon as it is known and those before it are published.
    private mutating func publish(_ items: [(index: Int, item: NodeResult.Item)], of node: Execution.NodeOutput) async {
        await withTaskGroup(of: (Int, Result<Found?, any Error>).self) { [client, logger] group in
            var asked = 0
            func ask() {
                while asked < items.count {
                    let number = asked
                    asked += 1
                    guard case .file(let places) = items[number].item.content else { continue }
                    group.addTask {
                        do { return (number, .success(try await Self.find(places, client, logger))) } catch { return (number, .failure(error)) }
                    }
                    return
                }
            }
            for _ in 0..<Self.lookUps { ask() }
            var answers: [Int: Result<Found?, any Error>] = [:]
            for (number, (index, item)) in items.enumerated() {
                let place = place(of: node.node, part: node.part, index: index)
                switch item.content {
                case .file(let places):
                    while answers[number] == nil, let (answered, answer) = await group.next() {
                        answers[answered] = answer
                        ask()
                    }
                    guard let answer = answers.removeValue(forKey: number) else { break }
                    await publish(fileAt: places, answer, of: node.node, listedUnder: item.key, place)
                case .text(let text, let number):
                    await publish(
                        Output(
                            job: job.id, node: node.node, place: place, name: Self.name(ofText: number + 1, node: node.node), kind: .text,
                            contentType: "text/plain; charset=utf-8", blob: Blob(text: text)))
                }
            }
        }
    }

    private func place(of node: String, part: String, index: Int) -> Output.Place {
        Output.Place(node: workflow.nodes.index(forKey: Name(node)) ?? workflow.nodes.count, part: part == node ? "" : part, index: index)
    }

    /// - Parameter places: where the file may be, the likeliest first.
    private mutating func publish(
        fileAt places: [FileReference], _ answer: Result<Found?, any Error>, of node: String, listedUnder key: String, _ place: Output.Place
    ) async {
        var info: FileInfo?
        var file = places[0]
        switch answer {
        case .success(let found?):
            file = found.file
            info = found.info
            // Another name of one that was published.
            guard file == places[0] || seen.insert(Self.key(node, file)).inserted else { return }
        case .success(nil): return miss(file, of: node)
        case .failure(let error):
            // One who was told to stop has no fault to tell of.
            logger.log(
                level: Task.isCancelled ? .debug : .warning,
                "the size of an output could not be read", metadata: .of(job.id, ["file": "\(file.filename)", "error": "\(NetworkWords.of(error))"]))
        }
        // The bridge is being stopped: the next one asks again, and gets size and type.
        guard !Task.isCancelled else { return }
        let contentType = ContentTypes.type(of: file.filename, said: info?.contentType)
        await publish(
            Output(
                job: job.id, node: node, place: place, name: file.filename, kind: Output.Kind(contentType: contentType, name: file.filename, listedUnder: key),
                contentType: contentType, isTemporary: file.type == "temp",
                blob: Blob(source: .comfyUI(ComfyFile(file, in: client.endpoint)), size: info?.size.map { Int($0) })))
    }

    private mutating func miss(_ file: FileReference, of node: String) {
        missing.append(file)
        guard !Task.isCancelled else { return }
        let message = "Node '\(node)' reported the file \(file.filename), but ComfyUI does not have it (any more). To make it anew, change an input of the node."
        job.publish(.log(LogEntry(.warning, message, node: node)))
    }

    private static func find(_ places: [FileReference], _ client: ComfyUIClient, _ logger: Logger) async throws -> Found? {
        for place in places {
            if let info = try await lookUp(place, client, logger) { return (place, info) }
        }
        return nil
    }

    /// The file's size and type, asked again after a failure: right after a run ComfyUI may be busy, or be restarted. Not after a refusal: it refuses
    /// names with two dots in a row, as in `%date:..%`, every time.
    private static func lookUp(_ file: FileReference, _ client: ComfyUIClient, _ logger: Logger) async throws -> FileInfo? {
        for pause in [Duration.zero, .milliseconds(100), .milliseconds(400), .seconds(1), .seconds(3)] {
            do { return try await client.info(of: file) } catch {
                if case .badAnswer(status: 400, _) = error { throw error }
                logger.debug("asking again for a file", metadata: ["error": "\(NetworkWords.of(error))"])
            }
            try await Task.sleep(for: pause)
        }
        return try await client.info(of: file)
    }

    private mutating func capture(node: String, contentType: String, image: ByteBuffer) async {
        capturedCount += 1
        let suffix = contentType == "image/png" ? "png" : "jpg"
        let safeNode = String(node.map { $0.isLetter || $0.isNumber || "-_".contains($0) ? $0 : "_" })
        let name = "\(safeNode)_\(String(capturedCount).leftPadded(to: 5))_.\(suffix)"
        do {
            let blob = try await assets.blobs.keep(Array(image.readableBytesView))
            let place = place(of: node, part: node, index: capturedCount)
            await publish(Output(job: job.id, node: node, place: place, name: name, kind: .image, contentType: contentType, blob: blob))
        } catch {
            logger.error("a result could not be written", metadata: .of(job.id, ["error": "\(NetworkWords.of(error))"]))
            unwritten = unwritten ?? name
            job.publish(.log(LogEntry(.error, "A picture of node '\(node)' could not be written to the bridge's disk.", node: node)))
        }
    }

    private mutating func publish(_ output: Output) async {
        do { try await assets.record(output) } catch {
            logger.error("an output could not be stored", metadata: .of(job.id, ["error": "\(NetworkWords.of(error))"]))
        }
        publishedCount += 1
        job.add(output)
    }
}

extension String {
    fileprivate func leftPadded(to length: Int) -> String {
        String(repeating: "0", count: max(0, length - count)) + self
    }
}
