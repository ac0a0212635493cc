import AsyncHTTPClient
import ComfyUI
import Foundation
import Logging
import NIOCore
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import Jobs
@testable import Store
@testable import TestSupport
@testable import Workers
@testable import Workflow

/// What a run left behind in a simulated ComfyUI becomes outputs of its job.
@Suite(.timeLimit(.minutes(5))) struct OutputCollectorTests {
    private struct Setting {
        let simulator: ComfySimulator
        let client: ComfyUIClient
        let assets: AssetService
        let blobs: FileBlobStore
        let job: Job

        /// A collector for the job as it is now.
        var collector: OutputCollector {
            OutputCollector(job: job, client: client, assets: assets, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        }

        func write(_ bytes: [UInt8], _ path: String) throws {
            let url = URL(fileURLWithPath: simulator.directory ?? "/nowhere").appendingPathComponent(path)
            try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data(bytes).write(to: url)
        }

        var names: [String] { job.outputs.map(\.name) }
        var sizes: [Int?] { job.outputs.map(\.asset.blob.size) }
        var messages: [String] { (job.events(after: 0, limit: 1000) ?? []).compactMap { if case .log(let entry) = $0.event { entry.message } else { nil } } }
    }

    private func withCollector(_ body: (Setting) async throws -> Void) async throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let blobs = try FileBlobStore(directory: nil, logger: logger)
        defer { blobs.removeTemporaryDirectory() }
        let graph: JSON = ["2": ["class_type": "SaveImage", "inputs": [:]], "1": ["class_type": "SaveImage", "inputs": [:]]]
        try await withSimulator { simulator, port in
            try await body(
                Setting(
                    simulator: simulator,
                    client: ComfyUIClient(endpoint: try ComfyEndpoint("http://127.0.0.1:\(port)"), httpClient: .shared, logger: logger),
                    assets: AssetService(store: MemoryAssetStore(), blobs: blobs, comfyFiles: NoComfyFiles(), retention: nil, inUse: { [] }, logger: logger),
                    blobs: blobs,
                    job: Job(submission: Submission(workflow: try Workflow(checking: graph), outputNodes: ["1", "2"]))))
        }
    }

    private func node(_ output: JSONObject, _ node: String = "1", isReused: Bool = false) -> OutputCollector.Item {
        .node(.init(node: node, part: node, output: output, isReused: isReused))
    }

    private func file(_ name: String, type: String = "output") -> JSON { ["filename": .string(name), "subfolder": "", "type": .string(type)] }

    @Test func sizeAndTypeAreComfyUIs() async throws {
        try await withCollector { setting in
            try setting.write([UInt8](repeating: 1, count: 123), "output/a.png")
            try setting.write([1, 2], "temp/b.bin")
            var collector = setting.collector
            await collector.collect(node(["images": [file("a.png"), file("b.bin", type: "temp")]]))
            #expect(setting.names == ["a.png", "b.bin"])
            #expect(setting.sizes == [123, 2])
            #expect(setting.job.outputs.map(\.kind) == [.image, .file])
            #expect(setting.job.outputs.map(\.contentType) == ["image/png", "application/octet-stream"])
            #expect(setting.job.outputs.map(\.isTemporary) == [false, true])
            #expect(collector.publishedCount == 2 && collector.failure == nil && collector.missing.isEmpty)
        }
    }

    /// A node is told of in a message and again in the history; an adopted job's were collected by the bridge before this one.
    @Test func nothingIsPublishedTwice() async throws {
        try await withCollector { setting in
            try setting.write([1], "output/a.png")
            let result: JSONObject = ["images": [file("a.png"), file("a.png")], "text": ["hi", "hi"]]
            var collector = setting.collector
            for _ in 1...2 { await collector.collect(node(result)) }
            #expect(setting.names == ["a.png", "1-1.txt", "1-2.txt"])
            var next = setting.collector
            await next.collect(node(result))
            #expect(setting.names == ["a.png", "1-1.txt", "1-2.txt"])
            #expect(next.publishedCount == 3)
            // The same of another node is another output.
            await next.collect(node(["text": ["hi"]], "2"))
            #expect(setting.names.last == "2-1.txt")
        }
    }

    @Test func whatComfyUIDoesNotHaveIsToldAndFailsARunWithoutOthers() async throws {
        try await withCollector { setting in
            var collector = setting.collector
            await collector.collect(node(["images": [file("gone.png")]], isReused: true))
            #expect(setting.names.isEmpty && Array(collector.missing).map(\.filename) == ["gone.png"])
            #expect(collector.failure?.message.contains("gone.png") == true)
            #expect(setting.messages.count == 1 && setting.messages[0].contains("gone.png"))
            #expect(!setting.job.snapshot.hasReusedOutputs, "none of it was used")
            try setting.write([1], "output/a.png")
            await collector.collect(node(["images": [file("a.png")]], "2", isReused: true))
            #expect(setting.names == ["a.png"] && collector.failure == nil)
            #expect(setting.job.snapshot.hasReusedOutputs)
        }
    }

    @Test func textsAndValuesNeedNoComfyUI() async throws {
        try await withCollector { setting in
            await setting.simulator.stop()
            var collector = setting.collector
            await collector.collect(node(["text": ["größe", "b"], "seed": [JSON.number(JSONNumber(literal: "18446744073709551615"))]]))
            #expect(setting.names == ["1-1.txt", "1-2.txt"])
            #expect(setting.sizes == [7, 1])
            #expect(setting.job.snapshot.otherOutputs["1"]?["seed"]?[0]?.text == "18446744073709551615")
        }
    }

    /// More of them than are asked about at once, the first the last to be answered.
    @Test func theirOrderIsTheNodes() async throws {
        try await withCollector { setting in
            let names = (0..<20).map { "f\($0).png" }
            for (number, name) in names.enumerated() { try setting.write([UInt8](repeating: 0, count: number), "output/\(name)") }
            setting.simulator.faults.arm(.delayAnswer(milliseconds: 300), only: "/view", times: 1)
            var collector = setting.collector
            await collector.collect(node(["images": .array(names.map { file($0) })]))
            #expect(setting.names == names)
            #expect(setting.sizes == Array(0..<20))
        }
    }

    @Test("A failure is asked about again", arguments: [Fault.hangUp, .error(500), .error(503)])
    func retries(_ fault: Fault) async throws {
        try await withCollector { setting in
            try setting.write([1, 2, 3], "output/a.png")
            setting.simulator.faults.arm(fault, only: "/view", times: 2)
            var collector = setting.collector
            await collector.collect(node(["images": [file("a.png")]]))
            #expect(setting.names == ["a.png"] && setting.sizes == [3])
            #expect(setting.simulator.statistics.requests >= 3)
        }
    }

    /// ComfyUI said that it made the file: it is an output, if one of unknown size.
    @Test func aFileThatCannotBeAskedAboutIsPublishedAllTheSame() async throws {
        try await withCollector { setting in
            await setting.simulator.stop()
            var collector = setting.collector
            await collector.collect(node(["images": [file("a.png")]]))
            #expect(setting.names == ["a.png"] && setting.sizes == [nil])
            #expect(setting.job.outputs.first?.contentType == "image/png")
            #expect(collector.failure == nil)
        }
    }

    /// The bridge that comes next asks again, and gets size and type.
    @Test func aStopLeavesFilesToTheNextBridge() async throws {
        try await withCollector { setting in
            try setting.write([1], "output/a.png")
            setting.simulator.faults.arm(.delayAnswer(milliseconds: 600_000), only: "/view", times: 1)
            let collecting = Task {
                var collector = setting.collector
                await collector.collect(node(["images": [file("a.png")]]))
            }
            try await setting.simulator.until("ComfyUI is asked") { $0.requests == 1 }
            collecting.cancel()
            await collecting.value
            #expect(setting.names.isEmpty && setting.messages.isEmpty)
            setting.simulator.faults.clear()
            var next = setting.collector
            await next.collect(node(["images": [file("a.png")]]))
            #expect(setting.sizes == [1])
        }
    }

    @Test func capturedPicturesAreWrittenAndCounted() async throws {
        try await withCollector { setting in
            var collector = setting.collector
            await collector.collect(.captured(node: "2", contentType: "image/png", image: ByteBuffer(bytes: [1, 2, 3])))
            await collector.collect(.captured(node: "5:1/x", contentType: "image/jpeg", image: ByteBuffer(bytes: [4])))
            #expect(setting.names == ["2_00001_.png", "5_1_x_00002_.jpg"])
            #expect(setting.sizes == [3, 1])
            guard case .stored(let path) = setting.job.outputs.first?.asset.blob.source else {
                Issue.record("it is not on the disk")
                return
            }
            let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
            #expect(Array(bytes) == [1, 2, 3])
            // The next bridge goes on counting.
            var next = setting.collector
            await next.collect(.captured(node: "2", contentType: "image/png", image: ByteBuffer(bytes: [6])))
            #expect(setting.names.last == "2_00003_.png")
        }
    }

    @Test func aPictureThatCannotBeWrittenIsSaid() async throws {
        try await withCollector { setting in
            setting.blobs.removeTemporaryDirectory()
            var collector = setting.collector
            await collector.collect(.captured(node: "2", contentType: "image/png", image: ByteBuffer(bytes: [1])))
            #expect(setting.names.isEmpty)
            #expect(collector.failure?.code == .insufficientStorage)
            #expect(setting.messages.count == 1 && setting.messages[0].contains("could not be written"))
        }
    }
}
