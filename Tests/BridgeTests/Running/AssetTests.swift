import Foundation
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import API
@testable import Jobs
@testable import TestSupport
@testable import Workers

/// Uploads, references and outputs as inputs, with a running bridge before simulated ComfyUIs.
@Suite(.timeLimit(.minutes(5))) struct AssetTests {
    private static let none = "blake3:" + String(repeating: "0", count: 64)

    // MARK: Uploading

    @Test func anUploadIsAnAsset() async throws {
        try await withBridge { bridge, _ in
            let bytes = Array("some bytes".utf8)
            let answer = try await bridge.upload(bytes, ["file_path": "notes/a.txt", "content_type": "text/plain", "tags": "input", "expires_in": "60"])
            #expect(answer.status == 201)
            let asset = try answer.json
            let id = try #require(asset["id"]?.string)
            #expect(answer.headers.first(name: "Location") == "/api/v2/assets/\(id)")
            #expect(asset["hash"]?.string == ContentHash(of: bytes).description)
            #expect(asset["size_bytes"]?.int == 10 && asset["content_type"] == "text/plain" && asset["file_path"] == "notes/a.txt")
            #expect(asset["created_new"] == true && asset["tags"] == ["input"] && asset["job_id"] == .null)
            let lifetime = try #require(asset["expires_at"]?.date).timeIntervalSince(try #require(asset["created_at"]?.date))
            #expect(abs(lifetime - 60) < 0.01)
            let content = try await bridge.get("/api/v2/assets/\(id)/content", [("Range", "bytes=5-")])
            #expect(content.status == 206 && content.body == Array("bytes".utf8))
            #expect(content.headers.first(name: "Content-Disposition") == #"inline; filename="a.txt""#)
        }
    }

    @Test func sameBytesAreKeptOnce() async throws {
        try await withBridge { bridge, _ in
            let first = try await bridge.upload([1, 2, 3], ["file_path": "a.bin"]), second = try await bridge.upload([1, 2, 3], ["file_path": "b.bin"])
            #expect(first.status == 201 && second.status == 200)
            let firstAsset = try first.json, secondAsset = try second.json
            #expect(secondAsset["created_new"] == false && secondAsset["id"] != firstAsset["id"] && secondAsset["hash"] == firstAsset["hash"])
            let id = firstAsset["id"]?.string ?? ""
            let deleted = try await bridge.send(.DELETE, "/api/v2/assets/\(id)")
            #expect(deleted.status == 204 && deleted.body.isEmpty)
            let gone = try await bridge.send(.DELETE, "/api/v2/assets/\(id)")
            #expect(gone.status == 404)
            let other = try await bridge.get("/api/v2/assets/\(secondAsset["id"]?.string ?? "")/content")
            #expect(other.body == [1, 2, 3], "deleting one asset never takes another's bytes")
        }
    }

    @Test func aHashSavesTheUpload() async throws {
        try await withBridge { bridge, _ in
            let asset = try await bridge.upload([4, 5, 6], ["file_path": "a.bin", "content_type": "x/y"]).json
            let hash = asset["hash"]?.string ?? ""
            let known = try await bridge.send(.HEAD, "/api/v2/assets/by-hash/\(hash)")
            #expect(known.status == 200)
            for unknown in [Self.none, "blake3:00", "nonsense"] {
                let answer = try await bridge.send(.HEAD, "/api/v2/assets/by-hash/\(unknown)")
                #expect(answer.status == 404)
            }
            func fromHash(_ body: JSON) async throws -> RunningBridge.Answer { try await bridge.send(.POST, "/api/v2/assets/from-hash", body: body.encoded()) }
            let minted = try await fromHash(["hash": .string(hash), "file_path": "b.bin", "expires_in": 100])
            #expect(minted.status == 201)
            let mintedAsset = try minted.json
            #expect(mintedAsset["created_new"] == false && mintedAsset["content_type"] == "x/y" && mintedAsset["file_path"] == "b.bin")
            let same = try await fromHash(["hash": .string(hash), "file_path": "b.bin", "expires_in": 1000])
            #expect(same.status == 200)
            let sameAsset = try same.json
            #expect(sameAsset["id"] == mintedAsset["id"])
            #expect(try #require(sameAsset["expires_at"]?.date) > #require(mintedAsset["expires_at"]?.date), "named again, it stays longer")
            let shorter = try await fromHash(["hash": .string(hash), "file_path": "b.bin", "expires_in": 60])
            #expect(try shorter.json["expires_at"] == sameAsset["expires_at"])
            let missing = try await fromHash(["hash": .string(Self.none)])
            #expect(missing.status == 404 && missing.errorCode == "blob_not_found")
            let malformed = try await fromHash(["hash": "abc"])
            #expect(malformed.status == 422 && malformed.errorCode == "invalid_request")
        }
    }

    @Test func whatCannotBeTakenIsSaidAndNotKept() async throws {
        try await withBridge { bridge, _ in
            let cases: [([String: String], Int, String, String?)] = [
                (["file_path": "a.bin", "expected_hash": Self.none], 409, "hash_mismatch", nil),
                (["file_path": "a.bin", "expected_hash": "sha256:00"], 422, "invalid_request", "expected_hash"),
                (["file_path": "../a.bin"], 422, "invalid_request", "file_path"), (["file_path": "models/checkpoints/a.safetensors"], 422, "invalid_request", "file_path"),
                (["file_path": "a.bin", "expires_in": "59"], 422, "invalid_request", "expires_in"), (["file_path": "a.bin", "expires_in": "soon"], 422, "invalid_request", "expires_in"),
                (["file_path": "a.bin", "content_type": "png"], 422, "invalid_request", "content_type"),
                (["file_path": "a.bin", "tags": String(repeating: "x", count: 9000)], 422, "invalid_request", "tags"),
            ]
            for (fields, status, code, field) in cases {
                let answer = try await bridge.upload([7, 7, 7], fields)
                #expect(answer.status == status && answer.errorCode == code, "\(fields)")
                #expect(try answer.json["error"]?["details"]?["field"]?.string == field, "\(fields)")
            }
            let hash = ContentHash(of: [7, 7, 7] as [UInt8])
            let kept = try await bridge.send(.HEAD, "/api/v2/assets/by-hash/\(hash)")
            #expect(kept.status == 404)
            let json = try await bridge.send(.POST, "/api/v2/assets", [("Content-Type", "application/json")], body: Array("{}".utf8))
            #expect(json.status == 415 && json.errorCode == "unsupported_media_type")
            let form = Multipart(file: nil, ["file_path": "a.bin"])
            let noFile = try await bridge.send(.POST, "/api/v2/assets", [("Content-Type", form.contentType)], body: form.body)
            #expect(noFile.status == 422)
        }
    }

    @Test func anUploadKeyWorksOnceAndIsFreeAfterAFailure() async throws {
        try await withBridge { bridge, _ in
            let failed = try await bridge.upload([1], ["file_path": "/"], [("Idempotency-Key", "k")])
            #expect(failed.status == 422)
            let first = try await bridge.upload([1], ["file_path": "a"], [("Idempotency-Key", "k")])
            #expect(first.status == 201)
            let second = try await bridge.upload([1], ["file_path": "a"], [("Idempotency-Key", "k")])
            #expect(second.status == 422 && second.errorCode == "idempotency_key_reuse")
            let job = try await bridge.send(.POST, "/api/v2/jobs", [("Idempotency-Key", "k")], body: (["workflow": Graph.picture()] as JSON).encoded())
            #expect(job.status == 201, "keys of uploads and of jobs are different things")
        }
    }

    @Test func tooLargeUploadsAreRefused() async throws {
        try await withBridge(["--max-upload-size", "1"]) { bridge, _ in
            let answer = try await bridge.upload([UInt8](repeating: 0, count: 1 << 20), ["file_path": "a.bin"])
            #expect(answer.status == 413 && answer.errorCode == "payload_too_large")
            let fits = try await bridge.upload([UInt8](repeating: 0, count: 1_000_000), ["file_path": "a.bin"])
            #expect(fits.status == 201)
        }
    }

    // MARK: Forms

    /// The parts of a form beside its file, so many of a name.
    private func answer(_ parts: [(name: String, value: [UInt8], count: Int)], of bridge: RunningBridge) async throws -> RunningBridge.Answer {
        var body: [UInt8] = []
        for (name, value, count) in parts {
            let part = Array("--b0undary\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n".utf8) + value + Array("\r\n".utf8)
            for _ in 0..<count { body += part }
        }
        let file = Multipart(file: [1], ["file_path": "a.bin"])
        return try await bridge.send(.POST, "/api/v2/assets", [("Content-Type", file.contentType)], body: body + file.body)
    }

    @Test(
        "Parts that a form may not have",
        arguments: [
            ("a", 0, 4000, "a", "means nothing here; possible are file, file_path, content_type, expected_hash, tags, expires_in."),
            ("a", 8000, 20, "a", "means nothing here"),
            ("", 0, 1, "", "means nothing here"),
            ("FILE", 1, 1, "FILE", "means nothing here"),
            ("tags", 1, 100, "file_path", "more than 100 parts"),
            ("tags", 0, 4000, "tags", "more than 100 parts"),
            ("tags", 8192, 1, "tags", "64 tags of 1 to 256 bytes"),
            ("tags", 8193, 1, "tags", "more than 8192 bytes"),
            ("file_path", 1, 1, "file_path", "several parts named 'file_path'"),
            ("file", 1, 1, "file", "several parts named 'file'"),
        ])
    func parts(_ name: String, _ size: Int, _ count: Int, _ field: String, _ message: String) async throws {
        try await withBridge { bridge, _ in
            let answer = try await answer([(name, [UInt8](repeating: UInt8(ascii: "x"), count: size), count)], of: bridge)
            #expect(answer.status == 422 && answer.errorCode == "invalid_request")
            #expect(try answer.json["error"]?["details"]?["field"] == .string(field))
            let text = try answer.json["error"]?["message"]?.string ?? ""
            #expect(text.contains(message), "\(text)")
        }
    }

    @Test func aPartIsNamedByItsBytes() async throws {
        try await withBridge { bridge, _ in
            // Equal to file_path for Swift's String once normalized? Not to us: a mark behind the name makes another name.
            let marked = try await answer([("tags\u{301}", [1], 1)], of: bridge)
            #expect(marked.status == 422)
            let long = try await answer([("tags" + String(repeating: "\u{315}\u{300}", count: 1500), [1], 1)], of: bridge)
            #expect(long.status == 422)
        }
    }

    // MARK: In workflows

    @Test func aReferencedUploadIsBroughtToComfyUI() async throws {
        try await withBridge { bridge, simulator in
            let picture = try await bridge.picture(seed: 77)
            let asset = try await bridge.upload(picture, ["file_path": "sub/photo.png"]).json
            let job = try await bridge.run(Graph.load(Graph.reference(asset))).json
            #expect(job["status"] == "succeeded")
            #expect(try simulator.inputFile("sub/photo.png") == picture)
            let workflow = try await bridge.get("/api/v2/jobs/\(job["id"]?.string ?? "")/workflow").json
            #expect(workflow["workflow"] == Graph.load(Graph.reference(asset)), "the workflow stays as it was sent")
        }
    }

    @Test func anUploadedNameIsEnough() async throws {
        try await withBridge { bridge, simulator in
            let picture = try await bridge.picture(seed: 5), other = try await bridge.picture(seed: 6)
            try Data(other).write(to: simulator.inputPath("photo.png"))
            _ = try await bridge.upload(picture, ["file_path": "photo.png"])
            let job = try await bridge.run(Graph.load("photo.png")).json
            #expect(job["status"] == "succeeded")
            #expect(try simulator.inputFile("photo.png") == other, "files of others are left alone")
            #expect(try simulator.inputFile("photo (1).png") == picture)
            let annotated = try await bridge.run(Graph.load("photo.png [input]")).json
            #expect(annotated["status"] == "succeeded")
        }
    }

    @Test func aFileThatWasTidiedUpIsBroughtAgain() async throws {
        try await withBridge { bridge, simulator in
            let asset = try await bridge.upload(try await bridge.picture(seed: 8), ["file_path": "photo.png"]).json
            for seed in 1...2 {
                let job = try await bridge.run(Graph.load(Graph.reference(asset), prefix: "p\(seed)")).json
                #expect(job["status"] == "succeeded")
                try FileManager.default.removeItem(at: simulator.inputPath("photo.png"))
            }
        }
    }

    @Test func missingAssetsAreNamed() async throws {
        try await withBridge { bridge, _ in
            let asset = try await bridge.upload([1], ["file_path": "a.png"]).json
            let deleted = try await bridge.send(.DELETE, "/api/v2/assets/\(asset["id"]?.string ?? "")")
            #expect(deleted.status == 204)
            let answer = try await bridge.run(Graph.load(Graph.reference(asset)))
            #expect(answer.status == 422 && answer.errorCode == "missing_asset")
            #expect(try answer.json["error"]?["details"]?["missing_ids"] == [asset["id"] ?? .null])
            let malformed = try await bridge.run(Graph.load(["__type": "core/ASSET", "info": ["hash": .string(Self.none)]]))
            #expect(malformed.status == 422 && malformed.errorCode == "missing_asset")
        }
    }

    @Test func anAssetThatAJobReadsIsNotDeleted() async throws {
        try await withBridge { bridge, _ in
            let asset = try await bridge.upload(try await bridge.picture(seed: 9), ["file_path": "a.png"]).json
            let id = asset["id"]?.string ?? ""
            let running = try await bridge.submit(Graph.delay(milliseconds: 60_000))
            try await bridge.events(of: running) { $0.name == "status" && $0.json["status"] == "running" }
            let waiting = try await bridge.submit(Graph.load(Graph.reference(asset)))
            let refused = try await bridge.send(.DELETE, "/api/v2/assets/\(id)")
            #expect(refused.status == 409 && refused.errorCode == "asset_in_use")
            for job in [running, waiting] {
                _ = try await bridge.send(.POST, "/api/v2/jobs/\(job)/cancel")
                try await bridge.events(of: job)
            }
            let deleted = try await bridge.send(.DELETE, "/api/v2/assets/\(id)")
            #expect(deleted.status == 204)
        }
    }

    // MARK: Outputs

    @Test func anOutputIsTheInputOfTheNextJobOnTheSameComfyUI() async throws {
        try await withBridge { bridge, simulator in
            let first = try await bridge.run(Graph.picture(seed: 3)).json
            let output = try #require(first["outputs"]?[0])
            let second = try await bridge.run(Graph.load(Graph.reference(output))).json
            #expect(second["status"] == "succeeded")
            #expect(try simulator.inputFiles().isEmpty, "ComfyUI reads its own file where it is")
            let refused = try await bridge.send(.DELETE, "/api/v2/assets/\(output["id"]?.string ?? "")")
            #expect(refused.status == 409 && refused.errorCode == "asset_in_use")
        }
    }

    @Test func anOutputIsTheInputOfAJobOnAnotherComfyUI() async throws {
        try await withSimulator { first, firstPort in
            try await withSimulator { second, secondPort in
                try await withBridge([firstPort, secondPort]) { bridge in
                    let made = try await bridge.run(Graph.picture(seed: 12)).json
                    let output = try #require(made["outputs"]?[0])
                    let name = output["name"]?.string ?? ""
                    let picture = try await bridge.get(output["url"]?.string ?? "").body
                    let (owner, other) = first.outputExists(name) ? (first, second) : (second, first)
                    var reader = try await bridge.run(Graph.load(Graph.reference(output), prefix: "r")).json
                    while !other.outputExists((reader["outputs"]?[0]?["name"]?.string ?? "")) {
                        // One of both is kept busy, so that the reading job runs on the other.
                        let busy = try await bridge.submit(Graph.delay(milliseconds: 300, seed: .random(in: 0..<0xFF_FFFF)))
                        try await bridge.events(of: busy, query: "?last_event_id=0", until: { $0.json["status"] == "running" })
                        reader = try await bridge.run(Graph.load(Graph.reference(output), prefix: "r\(UUID())")).json
                        try await bridge.events(of: busy)
                    }
                    #expect(reader["status"] == "succeeded")
                    #expect(try other.inputFile(name) == picture)
                    #expect(try owner.inputFiles().isEmpty)
                }
            }
        }
    }

    @Test func theHashOfAnOutputIsFoundWhenAskedFor() async throws {
        try await withBridge { bridge, _ in
            let job = try await bridge.run(Graph.picture(seed: 4)).json
            let output = try #require(job["outputs"]?[0])
            #expect(output["hash"] == .null)
            let path = "/api/v2/assets/\(output["id"]?.string ?? "")"
            var asset: JSON = .null
            try await bridge.until("the hash is known") {
                asset = try await $0.get(path).json
                return asset["hash"] != .null
            }
            let bytes = try await bridge.get("\(path)/content").body
            #expect(asset["hash"]?.string == ContentHash(of: bytes).description)
            #expect(try await bridge.job(job["id"]?.string ?? "")["outputs"]?[0]?["hash"] == asset["hash"])
            let same = try await bridge.send(.POST, "/api/v2/assets/from-hash", body: (["hash": asset["hash"] ?? .null] as JSON).encoded())
            #expect(same.status == 201, "an output's bytes need no upload")
        }
    }

    @Test func aCapturedOutputHasItsHashAtOnce() async throws {
        try await withBridge { bridge, _ in
            let graph: JSON = [
                "1": ["class_type": "EmptyImage", "inputs": ["width": 16, "height": 16, "batch_size": 1, "color": 1]],
                "2": ["class_type": "SaveImageWebsocket", "inputs": ["images": ["1", 0]]],
            ]
            let output = try #require(try await bridge.run(graph).json["outputs"]?[0])
            let bytes = try await bridge.get(output["url"]?.string ?? "").body
            #expect(output["hash"]?.string == ContentHash(of: bytes).description)
            let next = try await bridge.run(Graph.load(Graph.reference(output))).json
            #expect(next["status"] == "succeeded")
        }
    }
}

/// A `multipart/form-data` body.
private struct Multipart {
    let contentType = "multipart/form-data; boundary=b0undary"
    let body: [UInt8]

    init(file: [UInt8]?, _ fields: [String: String]) {
        var body: [UInt8] = []
        for (name, value) in fields { body += Array("--b0undary\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n\(value)\r\n".utf8) }
        if let file {
            body += Array("--b0undary\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\nContent-Type: application/octet-stream\r\n\r\n".utf8) + file
            body += Array("\r\n".utf8)
        }
        self.body = body + Array("--b0undary--\r\n".utf8)
    }
}

extension RunningBridge {
    func upload(_ bytes: [UInt8], _ fields: [String: String], _ headers: [(String, String)] = []) async throws -> Answer {
        let form = Multipart(file: bytes, fields)
        return try await send(.POST, "/api/v2/assets", headers + [("Content-Type", form.contentType)], body: form.body)
    }

    fileprivate func picture(seed: Int) async throws -> [UInt8] {
        try await run(Graph.picture(seed: seed), [("Accept", "image/png")]).body
    }
}

extension Graph {
    fileprivate static func load(_ image: JSON, prefix: String = "l") -> JSON {
        [
            "1": ["class_type": "LoadImage", "inputs": ["image": image]],
            "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0], "filename_prefix": .string(prefix)]],
        ]
    }

    fileprivate static func reference(_ asset: JSON) -> JSON { ["__type": "core/ASSET", "info": ["id": asset["id"] ?? .null]] }
}

extension ComfySimulator {
    private func path(_ kind: String, _ name: String) -> URL { URL(fileURLWithPath: directory ?? "/nowhere").appendingPathComponent("\(kind)/\(name)") }
    fileprivate func inputPath(_ name: String) -> URL { path("input", name) }
    fileprivate func inputFile(_ name: String) throws -> [UInt8] { Array(try Data(contentsOf: inputPath(name))) }
    fileprivate func inputFiles() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: path("input", "").path).filter { $0 != "example.png" }
    }
    fileprivate func outputExists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: path("output", name).path) }
}

extension JSON {
    fileprivate var date: Date? { string.flatMap { try? Date($0, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)) } }
}
