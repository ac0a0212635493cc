import ComfyUI
import FoundationEssentials
import Logging
import NIOCore
import OrderedCollections
import OrderedJSON

/// Turns what a run left behind into outputs of its job: looks up the true size and type of files, writes to disk what
/// exists nowhere else, and publishes each as soon as it is known. One per run; used from one task.
struct OutputCollector: Sendable {
    enum Item: Sendable {
        case node(Run.NodeOutput)
        case captured(node: String, contentType: String, image: ByteBuffer)
        case preview(Preview)
    }

    let job: Job
    let client: ComfyUIClient
    let assets: AssetService
    let previewFiles: PreviewFiles?
    let logger: Logger

    private let workflow: Workflow
    private var seen: Set<String> = []
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

    init(job: Job, client: ComfyUIClient, assets: AssetService, previewFiles: PreviewFiles?, logger: Logger) {
        self.job = job
        self.client = client
        self.assets = assets
        self.previewFiles = previewFiles
        self.logger = logger
        workflow = job.submission.workflow
        for output in job.outputs { note(output) }
    }

    /// An adopted job has what the bridge before this one collected; ComfyUI will name it again.
    private mutating func note(_ output: Output) {
        publishedCount += 1
        switch output.asset.blob.source {
        case .comfyUI(_, let file): seen.insert(Self.key(output.node, file))
        case .text(let text): seen.insert(Self.key(output.node, text, index: Self.number(ofText: output.name, node: output.node) - 1))
        case .stored: capturedCount += 1
        }
    }

    private static func key(_ node: String, _ file: FileReference) -> String { "\(node)/\(file.type)/\(file.subfolder)/\(file.filename)" }
    private static func key(_ node: String, _ text: String, index: Int) -> String { "\(node)/text/\(index)/\(text)" }
    private static func name(ofText number: Int, node: String) -> String { "\(node)-\(number).txt" }
    private static func number(ofText name: String, node: String) -> Int { Int(name.dropFirst(node.count + 1).dropLast(4)) ?? 0 }

    mutating func collect(_ item: Item) async {
        switch item {
        case .node(let output): await collect(output)
        case .captured(let node, let contentType, let image): await capture(node: node, contentType: contentType, image: image)
        case .preview(let preview): await previewFiles?.write(preview, job: job.id)
        }
    }

    private mutating func collect(_ node: Run.NodeOutput) async {
        let result = NodeResult(node.output)
        var hasOutputs = false
        for (index, item) in result.items.enumerated() {
            let place = place(of: node.node, part: node.part, index: index)
            switch item.content {
            case .file(let places):
                if !places.contains(where: { seen.contains(Self.key(node.node, $0)) }) {
                    await publish(fileAt: places, of: node.node, listedUnder: item.key, place)
                }
                if !missing.contains(places[0]) { hasOutputs = true }
            case .text(let text, let number):
                hasOutputs = true
                guard seen.insert(Self.key(node.node, text, index: number)).inserted else { continue }
                await publish(
                    Output(
                        job: job.id, node: node.node, place: place, name: Self.name(ofText: number + 1, node: node.node), kind: .text,
                        contentType: "text/plain; charset=utf-8", blob: Blob(text: text)))
            }
        }
        if !result.others.isEmpty { job.addOther(.object(result.others), node: node.node) }
        if hasOutputs, node.isReused { job.markReusedOutputs() }
    }

    private func place(of node: String, part: String, index: Int) -> Output.Place {
        Output.Place(node: workflow.nodes.index(forKey: node) ?? workflow.nodes.count, part: part == node ? "" : part, index: index)
    }

    /// - Parameter places: where the file may be, the likeliest first.
    private mutating func publish(fileAt places: [FileReference], of node: String, listedUnder key: String, _ place: Output.Place) async {
        var info: FileInfo?
        var file = places[0]
        seen.insert(Self.key(node, file))
        do {
            for candidate in places where info == nil {
                info = try await lookUp(candidate)
                if info != nil { file = candidate }
            }
            guard info != nil else { return miss(file, of: node) }
        } catch {
            // One who was told to stop has no fault to tell of.
            logger.log(
                level: Task.isCancelled ? .debug : .warning,
                "the size of an output could not be read", metadata: .of(job.id, ["file": "\(file.filename)", "error": "\(ErrorWords.of(error))"]))
        }
        // The bridge is being stopped: the next one asks again, and gets size and type.
        guard !Task.isCancelled else { return }
        let contentType = ContentTypes.type(of: file.filename, said: info?.contentType)
        seen.insert(Self.key(node, file))
        await publish(
            Output(
                job: job.id, node: node, place: place, name: file.filename, kind: Output.Kind(contentType: contentType, name: file.filename, listedUnder: key),
                contentType: contentType, isTemporary: file.type == "temp",
                blob: Blob(source: .comfyUI(client, file), size: info?.size.map { Int($0) })))
    }

    private mutating func miss(_ file: FileReference, of node: String) {
        missing.append(file)
        guard !Task.isCancelled else { return }
        let message = "Node '\(node)' reported the file \(file.filename), but ComfyUI does not have it (any more). To make it anew, change an input of the node."
        job.publish(.log(LogEntry(.warning, message, node: node)))
    }

    /// The file's size and type, asked again after a failure: right after a run ComfyUI may be busy, or be restarted.
    private func lookUp(_ file: FileReference) async throws -> FileInfo? {
        for pause in [Duration.zero, .milliseconds(100), .milliseconds(400), .seconds(1), .seconds(3)] {
            do { return try await client.info(of: file) } catch { logger.debug("asking again for a file", metadata: ["error": "\(ErrorWords.of(error))"]) }
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
            logger.error("a result could not be written", metadata: .of(job.id, ["error": "\(ErrorWords.of(error))"]))
            unwritten = unwritten ?? name
            job.publish(.log(LogEntry(.error, "A picture of node '\(node)' could not be written to the bridge's disk.", node: node)))
        }
    }

    private mutating func publish(_ output: Output) async {
        do { try await assets.record(output) } catch {
            logger.error("an output could not be stored", metadata: .of(job.id, ["error": "\(ErrorWords.of(error))"]))
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
