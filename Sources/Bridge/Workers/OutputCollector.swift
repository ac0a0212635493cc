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

    private var seen: Set<String> = []
    private var capturedCount = 0
    private(set) var publishedCount = 0
    /// Files that ComfyUI named and does not have.
    private(set) var missing: [FileReference] = []
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

    /// Protocol section 12: an object of lists, in which objects with a `filename` are files. Nothing is dropped: what is
    /// neither a file nor a text is kept as it came.
    private mutating func collect(_ result: Run.NodeOutput) async {
        var others: JSONObject = [:]
        var hasOutputs = false
        for (key, value) in result.output {
            guard let items = value.array else {
                others[key] = value
                continue
            }
            var rest: [JSON] = []
            for (index, item) in items.enumerated() {
                if let file = FileReference(item) {
                    if seen.insert(Self.key(result.node, file)).inserted {
                        await publish(file, node: result.node, key: key)
                    }
                    if !missing.contains(file) { hasOutputs = true }
                } else if key == "text", let text = item.string {
                    hasOutputs = true
                    guard seen.insert(Self.key(result.node, text, index: index)).inserted else { continue }
                    await publish(
                        Output(
                            job: job.id, node: result.node, name: Self.name(ofText: index + 1, node: result.node), kind: .text, contentType: "text/plain; charset=utf-8",
                            blob: Blob(text: text)))
                } else if key != "animated" {  // a flag beside `images`
                    rest.append(item)
                }
            }
            if !rest.isEmpty { others[key] = .array(rest) }
        }
        if !others.isEmpty { job.addOther(.object(others), node: result.node) }
        if hasOutputs, result.isReused { job.markReusedOutputs() }
    }

    private mutating func publish(_ file: FileReference, node: String, key: String) async {
        var info: FileInfo?
        do {
            info = try await lookUp(file)
            if info == nil { missing.append(file) }
        } catch {
            logger.warning(
                "the size of an output could not be read", metadata: .of(job.id, ["file": "\(file.filename)", "error": "\(error)"]))
        }
        // The bridge is being stopped: the next one asks again, and gets size and type.
        guard !Task.isCancelled else { return }
        guard missing.last != file else {
            let message = "Node '\(node)' reported the file \(file.filename), but ComfyUI does not have it (any more). To make it anew, change an input of the node."
            job.publish(.log(LogEntry(.warning, message, node: node)))
            return
        }
        let contentType = info?.contentType ?? "application/octet-stream"
        await publish(
            Output(
                job: job.id, node: node, name: file.filename, kind: Output.Kind(contentType: contentType, name: file.filename, listedUnder: key),
                contentType: contentType, isTemporary: file.type == "temp",
                blob: Blob(source: .comfyUI(client, file), size: info?.size.map { Int($0) })))
    }

    /// The file's size and type, asked again after a failure: right after a run ComfyUI may be busy, or be restarted.
    private func lookUp(_ file: FileReference) async throws -> FileInfo? {
        for pause in [Duration.zero, .milliseconds(100), .milliseconds(400), .seconds(1), .seconds(3)] {
            do { return try await client.info(of: file) } catch { logger.debug("asking again for a file", metadata: ["error": "\(error)"]) }
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
            await publish(Output(job: job.id, node: node, name: name, kind: .image, contentType: contentType, blob: blob))
        } catch {
            logger.error("a result could not be written", metadata: .of(job.id, ["error": "\(error)"]))
            unwritten = unwritten ?? name
            job.publish(.log(LogEntry(.error, "A picture of node '\(node)' could not be written to the bridge's disk.", node: node)))
        }
    }

    private mutating func publish(_ output: Output) async {
        do { try await assets.record(output) } catch {
            logger.error("an output could not be stored", metadata: .of(job.id, ["error": "\(error)"]))
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
