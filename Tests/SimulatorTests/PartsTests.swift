import Foundation
import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// Pieces that need no server.
struct PartsTests {
    @Test func jsonLooksLikePythons() {
        let json: JSON = ["a": [1, 2.50, nil, true], "ü\n": "–\u{1F600}\"\\\u{01}", "n": .number(JSONNumber(literal: "NaN")), "e": [:]]
        #expect(PythonJSON.text(json) == #"{"a": [1, 2.5, null, true], "\u00fc\n": "\u2013\ud83d\ude00\"\\\u0001", "n": NaN, "e": {}}"#)
    }

    @Test(arguments: [(8.0, "8.0"), (0.1, "0.1"), (1e22, "1e+22"), (1.5e-7, "1.5e-07"), (1e-10, "1e-10"), (123456789.25, "123456789.25")])
    func floatsLookLikePythons(_ value: Double, _ text: String) { #expect(PythonText.float(value) == text) }

    // MARK: Heap

    private func prompt(_ number: Double, _ id: String) -> Prompt {
        Prompt(
            id: id, priority: Priority(given: number), graph: [:], extraData: [:], outputs: [], client: .absent, previews: false,
            killsWorker: false)
    }

    /// The expected order is what Python's heapq leaves behind for the same pushes.
    @Test func theHeapKeepsPythonsOrder() throws {
        var heap = PythonHeap()
        for number in [5, 3, 8, 1, 9, 2, 7] { try heap.push(prompt(Double(number), "x")) }
        #expect(heap.items.map(\.priority.value) == [1, 3, 2, 5, 9, 8, 7])
        let first = try heap.pop()
        #expect(first?.priority.value == 1)
        #expect(heap.items.map(\.priority.value) == [2, 3, 7, 5, 9, 8])
        try heap.remove(at: 1)
        #expect(heap.items.map(\.priority.value) == [2, 7, 5, 9, 8])
        var rest: [Double] = []
        while let next = try heap.pop() { rest.append(next.priority.value) }
        #expect(rest == [2, 5, 7, 8, 9])
    }

    @Test func equalNumbersAreOrderedByID() throws {
        var heap = PythonHeap()
        for id in ["b", "a", "c"] { try heap.push(prompt(1, id)) }
        var order: [String] = []
        while let next = try heap.pop() { order.append(next.id) }
        #expect(order == ["a", "b", "c"])
    }

    @Test func equalEntriesRaiseButStay() throws {
        var heap = PythonHeap()
        try heap.push(prompt(1, "a"))
        let equal = prompt(1, "a")
        #expect(throws: PythonHeap.Incomparable.self) { try heap.push(equal) }
        var taken = 0
        while try heap.pop() != nil { taken += 1 }
        #expect(taken == 2)
    }

    // MARK: Pictures

    @Test(arguments: [3, 4]) func pngSurvivesARoundTrip(_ channels: Int) throws {
        var random = SplitMix(state: 7)
        let picture = Picture(
            width: 13, height: 7, channels: channels, pixels: (0..<13 * 7 * channels).map { _ in UInt8(random.next() & 0xFF) })
        let file = PNG.adding([("prompt", Array("{}".utf8)), ("k", [])], to: try picture.png())
        let decoded = try Picture.decode(file)
        #expect(decoded.pixels == picture.pixels && decoded.channels == channels)
        #expect(PNG.texts(of: file).map { "\($0.key)=\($0.text)" } == ["prompt={}", "k="])
    }

    @Test(arguments: [[], [1, 2, 3], PNG.signature, PNG.signature + [0, 0, 0, 13], [0xFF, 0xD8, 0xFF, 0xE0, 0, 0]] as [[UInt8]])
    func damagedPicturesAreErrors(_ file: [UInt8]) { #expect(throws: PictureError.self) { try Picture.decode(file) } }

    @Test func truncatedPNGsAreErrors() throws {
        let file = try Scene(key: 1).picture(width: 64, height: 64).png()
        #expect(throws: PictureError.self) { try Picture.decode(Array(file.dropLast(file.count / 2))) }
    }

    @Test func jpegComesCloseToItsSource() throws {
        let picture = Scene(key: 3).picture(width: 80, height: 48)
        let decoded = try Picture.decode(try JPEG.encode(picture))
        #expect(decoded.width == 80 && decoded.height == 48)
        let error = zip(picture.pixels, decoded.pixels).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) } / picture.pixels.count
        #expect(error < 6)
    }

    @Test func scalingKeepsWhatItShould() {
        let checker = Picture(width: 2, height: 2, pixels: [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255])
        let large = checker.scaledNearest(width: 4, height: 6)
        #expect(large.pixels[0..<6].elementsEqual([255, 0, 0, 255, 0, 0]) && large.pixels.suffix(3).elementsEqual([255, 255, 255]))
        #expect(large.scaledNearest(width: 2, height: 2).pixels == checker.pixels)
        #expect(checker.scaledBilinear(width: 2, height: 2).pixels == checker.pixels)
        let flat = Picture(width: 5, height: 4, color: 0x102030).scaledBilinear(width: 33, height: 1)
        #expect(flat.pixels.allSatisfy { [0x10, 0x20, 0x30].contains($0) })
        let gradient = Picture(width: 2, height: 1, pixels: [0, 0, 0, 200, 200, 200]).scaledBilinear(width: 8, height: 1)
        #expect(gradient.pixels == gradient.pixels.sorted() && Set(gradient.pixels).count > 4)
        let cropped = Picture(width: 9, height: 3, color: 1).croppedToCenter(proportionsOf: 10, 10)
        #expect(cropped.width == 3 && cropped.height == 3)
    }

    @Test(arguments: [(512, 512, 64, 64, 64), (1024, 512, 64, 64, 32), (10, 1000, 64, 1, 64), (8, 8, 512, 512, 512)])
    func previewsFit(_ width: Int, _ height: Int, _ longer: Int, _ fittingWidth: Int, _ fittingHeight: Int) {
        #expect(Picture.fitting(width: width, height: height, longer: longer) == (fittingWidth, fittingHeight))
    }

    // MARK: Files

    @Test(
        arguments: [
            ("a.png [output]", "a.png", Folders.Kind.output), ("a.png [temp]", "a.png", .temp), ("a.png[input]", "a.pn", .input),
            ("a.png", "a.png", nil),
            ("[output]", "", .output),
        ] as [(String, String, Folders.Kind?)])
    func annotations(_ name: String, _ plain: String, _ kind: Folders.Kind?) { #expect(Folders.annotated(name) == (plain, kind)) }

    @Test func subfoldersStayInside() throws {
        let folder = try TemporaryFolder()
        let folders = try Folders(root: folder.path)
        #expect(folders.subfolder("", of: .output) == folders.path(.output))
        #expect(folders.subfolder("a/../b", of: .output) == folders.path(.output) + "/b")
        #expect(folders.subfolder(folders.path(.output) + "/x", of: .output) != nil)
        for outside in ["..", "a/../..", "/etc", "../outputs", "../output2"] { #expect(folders.subfolder(outside, of: .output) == nil) }
    }

    @Test(arguments: [0, 784_111_777, 951_782_400, 4_102_444_799] as [Int64]) func datesSurviveARoundTrip(_ seconds: Int64) {
        #expect(HTTPDate.seconds(HTTPDate.text(seconds)) == seconds)
    }

    @Test func datesAreHTTPs() {
        #expect(HTTPDate.text(784_111_777) == "Sun, 06 Nov 1994 08:49:37 GMT")
        for text in ["", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT", "\"etag\"", "Sun, 06 Nov 1994 08:49 GMT"] {
            #expect(HTTPDate.seconds(text) == nil)
        }
    }

    @Test func throttlePassesTheFirstTheLastAndSomeBetween() {
        var throttle = ProgressThrottle()
        let start = ContinuousClock.now
        let passed = (1...60).filter { step in
            throttle.passes(value: step, maximum: 60, hasPreview: false, now: start + .milliseconds(30 * step))
        }
        #expect(passed == Array(stride(from: 1, through: 57, by: 4)) + [60])  // as measured, protocol section 6
        let previewPasses = throttle.passes(value: 1, maximum: 60, hasPreview: true, now: start)
        #expect(previewPasses)
    }

    @Test(arguments: ["txt2img", "quick", "img2img", "websocket"])
    func examplesRunAsTheyAre(_ name: String) async throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let graph = try JSON(parsing: Data(contentsOf: root.appendingPathComponent("examples/\(name).json")))
        #expect(graph.object?.values.allSatisfy { $0["_meta"]?["title"]?.string != nil } == true)
        try await withSimulator { server in
            let socket = try await server.socket()
            _ = try await server.submit(graph)
            let messages = try await socket.messagesOfRun()
            #expect(messages.contains { $0.type == "execution_success" })
            #expect(messages.contains { $0.type == "executed" || $0.bytes != nil })
        }
    }
}
