import Foundation
import OrderedCollections
import OrderedJSON

/// Small files of the kind that their names promise, for outputs that the simulator cannot render.
enum SampleFile {
    /// - Parameter bytes: the file is stretched to that size with zeros; 0 leaves it as it is.
    static func write(_ path: String, bytes: Int) throws {
        let fileExtension = path.split(separator: ".").last.map { $0.lowercased() } ?? ""
        try Folders.write(try content(fileExtension), to: path)
        guard bytes > 0 else { return }
        let handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
        defer { try? handle.close() }
        try handle.truncate(atOffset: UInt64(bytes))
    }

    /// A safetensors file with one tensor of zeros of the latent's shape.
    static func latent(_ latent: Latent) -> [UInt8] {
        let shape = [latent.batch, 4, latent.height / 8, latent.width / 8]
        let size = shape.reduce(4, *)
        let header = PythonJSON.encode([
            "latent_tensor": ["dtype": "F32", "shape": .array(shape.map { JSON($0) }), "data_offsets": [0, JSON(size)]]
        ])
        let length = (0..<8).map { UInt8(header.count >> ($0 * 8) & 0xFF) }
        return length + header + [UInt8](repeating: 0, count: size)
    }

    private static func content(_ fileExtension: String) throws -> [UInt8] {
        switch fileExtension {
        case "png": try Scene(["sample"]).picture(width: 64, height: 64).png()
        case "jpg", "jpeg": try JPEG.encode(Scene(["sample"]).picture(width: 64, height: 64))
        case "mp4", "m4a", "mov": [0, 0, 0, 0x18] + Array("ftypmp42".utf8) + [0, 0, 0, 0] + Array("mp42isom".utf8)
        case "webm", "mkv": [0x1A, 0x45, 0xDF, 0xA3]
        case "wav": wave()
        case "flac": Array("fLaC".utf8)
        case "mp3": Array("ID3".utf8) + [4, 0, 0, 0, 0, 0, 0]
        case "glb": Array("glTF".utf8) + [2, 0, 0, 0, 12, 0, 0, 0]
        case "json": Array("{}".utf8)
        default: Array("made by the simulator\n".utf8)
        }
    }

    /// A tenth of a second of a 440 Hz square wave, 8 kHz, 8 bit, mono.
    private static func wave() -> [UInt8] {
        let samples = (0..<800).map { UInt8($0 * 880 / 8000 % 2 == 0 ? 100 : 156) }
        func little(_ value: Int, _ bytes: Int) -> [UInt8] { (0..<bytes).map { UInt8(value >> ($0 * 8) & 0xFF) } }
        let numbers = [(16, 4), (1, 2), (1, 2), (8000, 4), (8000, 4), (1, 2), (8, 2)]
        let format = Array("fmt ".utf8) + numbers.flatMap { little($0.0, $0.1) }
        let data = Array("data".utf8) + little(samples.count, 4) + samples
        return Array("RIFF".utf8) + little(4 + format.count + data.count, 4) + Array("WAVE".utf8) + format + data
    }
}
