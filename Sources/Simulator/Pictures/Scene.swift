/// The picture that a sampler "finds": a landscape with a sun behind layers of hills, drawn from a key alone.
///
/// Equal keys give equal pixels at a size; another seed or prompt text gives other colours and shapes.
struct Scene: Sendable, Hashable {
    let key: UInt64

    init(key: UInt64) { self.key = key }

    /// A key from what a person changes: seed, prompts, model.
    init(_ ingredients: [String]) {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325  // FNV-1a, 64 bit
        for byte in ingredients.joined(separator: "\u{1F}").utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        key = hash
    }

    /// The key of the picture at this place in a batch.
    func inBatch(_ index: Int) -> Scene { index == 0 ? self : Scene(key: key &+ UInt64(index) &* 0x9E37_79B9_7F4A_7C15) }

    func picture(width: Int, height: Int) -> Picture {
        var random = SplitMix(state: key)
        let hue = random.unit()
        let zenith = Color(hue: hue, saturation: 0.75, value: 0.35 + 0.2 * random.unit())
        let horizon = Color(hue: hue + 0.35 + 0.2 * random.unit(), saturation: 0.55, value: 0.98)
        let sun = (x: random.unit() * 0.7 + 0.15, y: random.unit() * 0.35 + 0.12, radius: 0.05 + 0.08 * random.unit())
        let glow = Color(hue: hue + 0.5, saturation: 0.25, value: 1)
        let hills = (0..<4).map { index in
            Hill(index: index, hue: hue + 0.15 + 0.1 * random.unit(), random: &random)
        }
        let ridges = hills.map { hill in (0..<width).map { hill.ridge(Float($0) / Float(width)) } }

        let pixels = [UInt8](unsafeUninitializedCapacity: width * height * 3) { buffer, count in
            let softness = Float(height) * 0.5  // an edge is two rows soft
            for row in 0..<height {
                let y = Float(row) / Float(height)
                let sky = zenith.mixed(with: horizon, y * 1.4)
                for column in 0..<width {
                    let x = Float(column) / Float(width)
                    let dx = (x - sun.x) * Float(width) / Float(height), dy = y - sun.y
                    let distance = (dx * dx + dy * dy).squareRoot()
                    var color = sky.mixed(with: glow, max(0, 1 - distance / 0.45) * 0.5)
                    color = color.mixed(with: glow, (sun.radius - distance) * softness)
                    for index in hills.indices {
                        let depth = y - ridges[index][column]
                        if depth > 0 { color = color.mixed(with: hills[index].color.scaled(1 - depth * 0.7), depth * softness) }
                    }
                    let offset = (row * width + column) * 3
                    buffer[offset] = color.red8
                    buffer[offset + 1] = color.green8
                    buffer[offset + 2] = color.blue8
                }
            }
            count = width * height * 3
        }
        return Picture(width: width, height: height, pixels: pixels)
    }
}

/// One layer of hills; layers with a higher index stand nearer, lower and darker.
private struct Hill {
    let color: Color
    private let base: Float
    private let waves: [(amplitude: Float, frequency: Float, phase: Float)]

    init(index: Int, hue: Float, random: inout SplitMix) {
        let depth = Float(index) / 3
        color = Color(hue: hue + 0.06 * depth, saturation: 0.35 + 0.3 * depth, value: 0.75 - 0.5 * depth)
        base = 0.48 + 0.15 * Float(index)
        var waves: [(amplitude: Float, frequency: Float, phase: Float)] = []
        for octave in 1...3 {
            let amplitude = 0.09 / Float(octave) * (0.6 + 0.8 * random.unit())
            waves.append((amplitude, Float(octave) * (0.7 + random.unit()), random.unit()))
        }
        self.waves = waves
    }

    /// The height of the ridge at a place from 0 (left) to 1; both counted from the top left.
    func ridge(_ x: Float) -> Float {
        waves.reduce(base) { $0 + $1.amplitude * Self.wave($1.frequency * x + $1.phase) }
    }

    /// A smooth periodic curve between -1 and 1, period 1: parabolas instead of a sine.
    private static func wave(_ turns: Float) -> Float {
        let phase = turns - turns.rounded(.down)
        let half = phase < 0.5 ? phase : phase - 0.5
        let bump = 16 * half * (0.5 - half)
        return phase < 0.5 ? bump : -bump
    }
}

struct Color {
    var red: Float
    var green: Float
    var blue: Float

    init(red: Float, green: Float, blue: Float) {
        self.red = red
        self.green = green
        self.blue = blue
    }

    /// - Parameter hue: in turns; any number.
    init(hue: Float, saturation: Float, value: Float) {
        func channel(_ shift: Float) -> Float {
            let turns = hue + shift
            let sixth = (turns - turns.rounded(.down)) * 6
            return value * (1 - saturation * min(max(2 - abs(sixth - 3), 0), 1))
        }
        self.init(red: channel(0), green: channel(2 / 3), blue: channel(1 / 3))
    }

    /// - Parameter share: of the other colour; below 0 counts as 0, above 1 as 1.
    func mixed(with other: Color, _ share: Float) -> Color {
        let share = min(max(share, 0), 1)
        return Color(
            red: red + (other.red - red) * share, green: green + (other.green - green) * share, blue: blue + (other.blue - blue) * share)
    }

    func scaled(_ factor: Float) -> Color { Color(red: red * factor, green: green * factor, blue: blue * factor) }

    var red8: UInt8 { UInt8(min(max(red, 0), 1) * 255) }
    var green8: UInt8 { UInt8(min(max(green, 0), 1) * 255) }
    var blue8: UInt8 { UInt8(min(max(blue, 0), 1) * 255) }
}

/// Sebastiano Vigna's SplitMix64: small, fast, the same everywhere.
struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    mutating func unit() -> Float { Float(next() >> 40) / Float(1 << 24) }
}
