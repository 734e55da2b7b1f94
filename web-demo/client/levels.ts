/** A meter on a sound: call it for the level of the moment, from 0 (-60 dBFS and less) to 1. */
export type Meter = () => number;

export function meter(source: AudioNode): Meter {
  const analyser = source.context.createAnalyser();
  analyser.fftSize = 1024;
  source.connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  return () => {
    analyser.getFloatTimeDomainData(samples);
    return loudness(samples);
  };
}

export function loudness(samples: Float32Array): number {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  const decibels = 10 * Math.log10(power + 1e-12);
  return Math.max(0, Math.min(1, 1 + decibels / 60));
}
