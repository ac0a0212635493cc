import AsyncHTTPClient
import ComfyUI
import Foundation
import Logging
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import Jobs
@testable import Store
@testable import TestSupport
@testable import Workers
@testable import Workflow

/// The files that jobs read, brought into a simulated ComfyUI.
@Suite(.timeLimit(.minutes(5))) struct InputFilesTests {
    private struct Setting {
        let simulator: ComfySimulator
        let files: InputFiles
        let endpoint: ComfyEndpoint
        let blobs: FileBlobStore

        /// What the loader of a job that reads the asset is given.
        func name(of asset: Asset) async throws -> String {
            let graph: JSON = ["1": ["class_type": "LoadImage", "inputs": ["image": ["__type": "core/ASSET", "info": ["id": .string(asset.id)]]]]]
            let input = Submission.Input(place: .reference(id: Name(asset.id)), asset: asset)
            let text = try await files.graph(of: Submission(workflow: try Workflow(checking: graph), outputNodes: ["1"], inputs: [input]))
            return try JSON(parsing: text)["1"]?["inputs"]?["image"]?.string ?? "none: \(String(decoding: text, as: UTF8.self))"
        }

        func upload(_ bytes: [UInt8], as path: String) async throws -> Asset {
            Asset(blob: try await blobs.keep(bytes), filePath: path, contentType: "image/png")
        }

        /// What a run left inside this ComfyUI.
        func output(_ name: String, in folder: String = "", size: Int) -> Asset {
            let file = ComfyFile(endpoint: endpoint.description, filename: name, subfolder: folder, type: "output")
            return Asset(blob: Blob(source: .comfyUI(file), size: size), filePath: name, contentType: "image/png", job: JobID())
        }

        private func url(_ path: String) -> URL { URL(fileURLWithPath: simulator.directory ?? "/nowhere").appendingPathComponent(path) }
        func bytes(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: url(path))) }
        func write(_ bytes: [UInt8], _ path: String) throws { try Data(bytes).write(to: url(path)) }
        func remove(_ path: String) throws { try FileManager.default.removeItem(at: url(path)) }
        /// Without the one that a ComfyUI comes with.
        func inputs() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: url("input").path).filter { $0 != "example.png" }.sorted() }
    }

    /// - Parameter others: ComfyUIs that the bridge has beside this one.
    private func withFiles(beside others: [ComfyEndpoint] = [], _ body: (Setting) async throws -> Void) async throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let blobs = try FileBlobStore(directory: nil, logger: logger)
        defer { blobs.removeTemporaryDirectory() }
        try await withSimulator { simulator, port in
            let endpoint = try ComfyEndpoint("http://127.0.0.1:\(port)")
            let clients = ClientDirectory(endpoints: [endpoint] + others, httpClient: .shared, logger: logger)
            let files = InputFiles(client: ComfyUIClient(endpoint: endpoint, httpClient: .shared, logger: logger), clients: clients, logger: logger)
            try await body(Setting(simulator: simulator, files: files, endpoint: endpoint, blobs: blobs))
        }
    }

    @Test func aFileIsBroughtOnceUnderItsName() async throws {
        try await withFiles { setting in
            let asset = try await setting.upload([1, 2, 3], as: "photo.png")
            #expect(try await setting.name(of: asset) == "photo.png")
            #expect(try setting.bytes("input/photo.png") == [1, 2, 3])
            // The next job is only asked about: a ComfyUI that was tidied up has to be given it again.
            let before = setting.simulator.statistics.requests
            #expect(try await setting.name(of: asset) == "photo.png")
            #expect(setting.simulator.statistics.requests == before + 1)
            try setting.remove("input/photo.png")
            #expect(try await setting.name(of: asset) == "photo.png")
            #expect(try setting.bytes("input/photo.png") == [1, 2, 3])
        }
    }

    @Test func aFileThatWasReplacedThereIsBroughtAgain() async throws {
        try await withFiles { setting in
            let asset = try await setting.upload([1, 2, 3], as: "photo.png")
            #expect(try await setting.name(of: asset) == "photo.png")
            try setting.write([9, 9, 9, 9], "input/photo.png")
            #expect(try await setting.name(of: asset) == "photo (1).png")
            #expect(try setting.bytes("input/photo.png") == [9, 9, 9, 9], "files of others are left alone")
            #expect(try setting.bytes("input/photo (1).png") == [1, 2, 3])
        }
    }

    @Test func anotherFileOfThatNameGetsTheNextOne() async throws {
        try await withFiles { setting in
            let first = try await setting.upload([1], as: "photo.png"), second = try await setting.upload([2], as: "photo.png")
            #expect(try await setting.name(of: first) == "photo.png")
            #expect(try await setting.name(of: second) == "photo (1).png")
            #expect(try await setting.name(of: first) == "photo.png")
            #expect(try setting.bytes("input/photo.png") == [1])
            #expect(try setting.bytes("input/photo (1).png") == [2])
        }
    }

    @Test func anUploadKeepsItsFolderAndAnOutputOfTheBridgeHasNone() async throws {
        try await withFiles { setting in
            let upload = try await setting.upload([1], as: "sub/deep/photo.png")
            #expect(try await setting.name(of: upload) == "sub/deep/photo.png")
            #expect(try setting.bytes("input/sub/deep/photo.png") == [1])
            // A captured picture: the name is ComfyUI's, and no path of ours.
            let output = Asset(blob: try await setting.blobs.keep([2]), filePath: "else/where.png", contentType: "image/png", job: JobID())
            #expect(try await setting.name(of: output) == "where.png")
            #expect(try setting.bytes("input/where.png") == [2])
        }
    }

    @Test func aTextIsBroughtAsAFile() async throws {
        try await withFiles { setting in
            let asset = Asset(blob: Blob(text: "größe"), filePath: "7-1.txt", contentType: "text/plain")
            let name = try await setting.name(of: asset)
            #expect(name == "7-1.txt")
            #expect(try setting.bytes("input/7-1.txt") == Array("größe".utf8))
        }
    }

    @Test func whatComfyUIHasIsReadWhereItIs() async throws {
        try await withFiles { setting in
            let asset = setting.output("a.png", in: "s", size: 1)
            let name = try await setting.name(of: asset)
            #expect(name == "s/a.png [output]")
            #expect(setting.simulator.statistics.requests == 0)
            #expect(try setting.inputs() == [])
        }
    }

    @Test func whatAnotherComfyUIHasIsCopied() async throws {
        try await withFiles { owner in
            try owner.write([5, 5], "output/a.png")
            try await withFiles(beside: [owner.endpoint]) { setting in
                let name = try await setting.name(of: owner.output("a.png", size: 2))
                #expect(name == "a.png")
                #expect(try setting.bytes("input/a.png") == [5, 5])
                #expect(try owner.inputs() == [])
                // One that is there no more.
                let gone = owner.output("gone.png", size: 2)
                await #expect { _ = try await setting.name(of: gone) } throws: { if case InputFileError.gone("gone.png") = $0 { true } else { false } }
            }
        }
    }

    @Test func whatIsNowhereIsSaid() async throws {
        try await withFiles { setting in
            let asset = Asset(blob: Blob(source: .stored(path: "/nowhere/at/all"), size: 3), filePath: "photo.png", contentType: "image/png")
            await #expect { _ = try await setting.name(of: asset) } throws: { if case InputFileError.gone("photo.png") = $0 { true } else { false } }
            let inputs = try setting.inputs()
            #expect(inputs == [])
        }
    }

    @Test("What ComfyUI does with an upload is said", arguments: [(Fault.error(413), "too large"), (.error(500), "unreadable"), (.hangUp, "unreachable")])
    func refusals(_ fault: Fault, _ expected: String) async throws {
        try await withFiles { setting in
            let asset = try await setting.upload([1], as: "photo.png")
            setting.simulator.faults.arm(fault, only: "POST /upload/image")
            var words = "none"
            do { _ = try await setting.name(of: asset) } catch {
                words =
                    switch error as? InputFileError {
                    case .tooLarge("photo.png"): "too large"
                    case .unreachable: "unreachable"
                    case .unreadable: "unreadable"
                    default: "\(error)"
                    }
            }
            #expect(words == expected)
            // It is not remembered as being there.
            setting.simulator.faults.clear()
            #expect(try await setting.name(of: asset) == "photo.png")
            #expect(try setting.bytes("input/photo.png") == [1])
        }
    }

    @Test func aComfyUIThatIsAwayIsSaid() async throws {
        try await withFiles { setting in
            let asset = try await setting.upload([1], as: "photo.png")
            await setting.simulator.stop()
            await #expect { _ = try await setting.name(of: asset) } throws: { if case InputFileError.unreachable = $0 { true } else { false } }
        }
    }
}
