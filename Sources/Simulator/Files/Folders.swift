import Crypto
import FoundationEssentials

/// The server's folders, and ComfyUI's rules for names that lead into them (protocol section 4).
///
/// Shared between the event loop and the worker; it holds nothing but paths.
struct Folders: Sendable {
    enum Kind: String, Sendable, CaseIterable {
        case input, output, temp
    }

    let root: String

    /// A temp folder is there already that no simulator made.
    struct ForeignTemp: Error, CustomStringConvertible {
        let path: String
        var description: String { "\(path) exists and would be emptied at every start: choose another directory, or remove it" }
    }

    /// Creates what is missing, empties temp as every start of ComfyUI does, and puts `example.png` into input.
    ///
    /// - Throws: `ForeignTemp` rather than emptying somebody's folder; a hidden file marks the simulator's own.
    init(root: String) throws {
        self.root = Self.normalized(root)
        let mark = self.root + "/.comfy-simulator"
        if FileManager.default.fileExists(atPath: path(.temp)) {
            guard FileManager.default.fileExists(atPath: mark) else { throw ForeignTemp(path: path(.temp)) }
            try FileManager.default.removeItem(atPath: path(.temp))
        }
        for kind in Kind.allCases { try FileManager.default.createDirectory(atPath: path(kind), withIntermediateDirectories: true) }
        try Self.write([], to: mark)
        let example = path(.input) + "/example.png"
        if !FileManager.default.fileExists(atPath: example) {
            try Self.write(Scene(["example"]).picture(width: 384, height: 256).png(), to: example)
        }
    }

    func path(_ kind: Kind) -> String { "\(root)/\(kind.rawValue)" }

    /// Splits `name [output]` into name and folder. Without the blank one character too many is cut off, as there.
    static func annotated(_ name: String) -> (name: String, kind: Kind?) {
        for kind in Kind.allCases where name.hasSuffix("[\(kind.rawValue)]") {
            return (String(name.dropLast(kind.rawValue.count + 3)), kind)
        }
        return (name, nil)
    }

    /// Where LoadImage looks. Not confined, as in ComfyUI before 0.33: `..` and absolute paths work (protocol section 14).
    func path(ofAnnotated name: String) -> String {
        let (name, kind) = Self.annotated(name)
        return name.hasPrefix("/") ? name : path(kind ?? .input) + "/" + name
    }

    func exists(annotated name: String) -> Bool { FileManager.default.fileExists(atPath: path(ofAnnotated: name)) }

    /// SHA-256 of the file's bytes; a missing file has its name's.
    func fingerprint(ofAnnotated name: String) -> String {
        let bytes = OpenFile(path: path(ofAnnotated: name))?.readAll() ?? Array(name.utf8)
        return Self.hexadecimal(SHA256.hash(data: bytes))
    }

    /// The path of a subfolder, or nil when it leads outside.
    func subfolder(_ subfolder: String, of kind: Kind) -> String? {
        let base = path(kind)
        let full = Self.normalized(subfolder.hasPrefix("/") ? subfolder : base + "/" + subfolder)
        return full == base || full.hasPrefix(base + "/") ? full : nil
    }

    /// File names at the top of a folder, sorted.
    func files(_ kind: Kind) -> [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path(kind))) ?? []
        return names.filter { name in
            var isDirectory = false
            return FileManager.default.fileExists(atPath: path(kind) + "/" + name, isDirectory: &isDirectory) && !isDirectory
        }.sorted()
    }

    /// Absolute, without `.`, `..` and doubled slashes. Symbolic links stay.
    static func normalized(_ path: String) -> String {
        let absolute = path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
        var parts: [Substring] = []
        for part in absolute.split(separator: "/") {
            switch part {
            case ".": break
            case "..": _ = parts.popLast()
            default: parts.append(part)
            }
        }
        return "/" + parts.joined(separator: "/")
    }

    static func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
