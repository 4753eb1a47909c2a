;; The one loop of the report's page that must be fast: a convolution at one cell, four channels at a time.
;;
;; In JavaScript alone the first kernel of a slice takes several times the 16 ms between two frames of a screen.
;; `cell.wasm` is this file assembled; after a change (pip install '.[dev]'):
;;
;;   python -c "import sys, wasmtime; sys.stdout.buffer.write(wasmtime.wat2wasm(open('cell.wat').read()))" > cell.wasm
;;
;; Source: W3C, "WebAssembly Core Specification 2.0", chapter 6, text format.
(module
  ;; One page of 64 KB; the page's script lets it grow to what a slice needs.
  (memory (export "memory") 1)

  ;; All places are in bytes. For each of $groups times 32 channels:
  ;;   output = bias + sum over rows and taps of input * weights (+ added), negative ones lifted to zero if $relu.
  ;; The input has $rows runs of $taps float32 that start $row_bytes apart; weights lie as (groups, rows, taps, 32).
  (func (export "cell")
    (param $input i32) (param $row_bytes i32) (param $rows i32) (param $taps i32) (param $weights i32)
    (param $bias i32)
    (param $added i32)    ;; a place, or 0 for none
    (param $output i32) (param $groups i32)
    (param $relu i32)     ;; 0 for none
    (local $row i32) (local $at i32) (local $end i32) (local $rows_left i32)
    (local $value v128)   ;; one number of the input, four times
    ;; Sums of the group's 32 channels, which stay in registers.
    (local $s0 v128) (local $s1 v128) (local $s2 v128) (local $s3 v128)
    (local $s4 v128) (local $s5 v128) (local $s6 v128) (local $s7 v128)

    (loop $each_group
      (local.set $s0 (v128.load offset=0 align=4 (local.get $bias)))
      (local.set $s1 (v128.load offset=16 align=4 (local.get $bias)))
      (local.set $s2 (v128.load offset=32 align=4 (local.get $bias)))
      (local.set $s3 (v128.load offset=48 align=4 (local.get $bias)))
      (local.set $s4 (v128.load offset=64 align=4 (local.get $bias)))
      (local.set $s5 (v128.load offset=80 align=4 (local.get $bias)))
      (local.set $s6 (v128.load offset=96 align=4 (local.get $bias)))
      (local.set $s7 (v128.load offset=112 align=4 (local.get $bias)))
      (local.set $row (local.get $input))
      (local.set $rows_left (local.get $rows))

      (loop $each_row
        (local.set $at (local.get $row))
        (local.set $end (i32.add (local.get $row) (i32.shl (local.get $taps) (i32.const 2))))

        (loop $each_tap
          (local.set $value (v128.load32_splat align=4 (local.get $at)))
          (local.set $s0 (f32x4.add (local.get $s0) (f32x4.mul (local.get $value) (v128.load offset=0 align=4 (local.get $weights)))))
          (local.set $s1 (f32x4.add (local.get $s1) (f32x4.mul (local.get $value) (v128.load offset=16 align=4 (local.get $weights)))))
          (local.set $s2 (f32x4.add (local.get $s2) (f32x4.mul (local.get $value) (v128.load offset=32 align=4 (local.get $weights)))))
          (local.set $s3 (f32x4.add (local.get $s3) (f32x4.mul (local.get $value) (v128.load offset=48 align=4 (local.get $weights)))))
          (local.set $s4 (f32x4.add (local.get $s4) (f32x4.mul (local.get $value) (v128.load offset=64 align=4 (local.get $weights)))))
          (local.set $s5 (f32x4.add (local.get $s5) (f32x4.mul (local.get $value) (v128.load offset=80 align=4 (local.get $weights)))))
          (local.set $s6 (f32x4.add (local.get $s6) (f32x4.mul (local.get $value) (v128.load offset=96 align=4 (local.get $weights)))))
          (local.set $s7 (f32x4.add (local.get $s7) (f32x4.mul (local.get $value) (v128.load offset=112 align=4 (local.get $weights)))))
          (local.set $weights (i32.add (local.get $weights) (i32.const 128)))
          (local.set $at (i32.add (local.get $at) (i32.const 4)))
          (br_if $each_tap (i32.lt_u (local.get $at) (local.get $end))))

        (local.set $row (i32.add (local.get $row) (local.get $row_bytes)))
        (local.set $rows_left (i32.sub (local.get $rows_left) (i32.const 1)))
        (br_if $each_row (local.get $rows_left)))

      (if (local.get $added) (then
        (local.set $s0 (f32x4.add (local.get $s0) (v128.load offset=0 align=4 (local.get $added))))
        (local.set $s1 (f32x4.add (local.get $s1) (v128.load offset=16 align=4 (local.get $added))))
        (local.set $s2 (f32x4.add (local.get $s2) (v128.load offset=32 align=4 (local.get $added))))
        (local.set $s3 (f32x4.add (local.get $s3) (v128.load offset=48 align=4 (local.get $added))))
        (local.set $s4 (f32x4.add (local.get $s4) (v128.load offset=64 align=4 (local.get $added))))
        (local.set $s5 (f32x4.add (local.get $s5) (v128.load offset=80 align=4 (local.get $added))))
        (local.set $s6 (f32x4.add (local.get $s6) (v128.load offset=96 align=4 (local.get $added))))
        (local.set $s7 (f32x4.add (local.get $s7) (v128.load offset=112 align=4 (local.get $added))))
        (local.set $added (i32.add (local.get $added) (i32.const 128)))))

      (if (local.get $relu) (then
        (local.set $s0 (f32x4.max (local.get $s0) (v128.const i32x4 0 0 0 0)))
        (local.set $s1 (f32x4.max (local.get $s1) (v128.const i32x4 0 0 0 0)))
        (local.set $s2 (f32x4.max (local.get $s2) (v128.const i32x4 0 0 0 0)))
        (local.set $s3 (f32x4.max (local.get $s3) (v128.const i32x4 0 0 0 0)))
        (local.set $s4 (f32x4.max (local.get $s4) (v128.const i32x4 0 0 0 0)))
        (local.set $s5 (f32x4.max (local.get $s5) (v128.const i32x4 0 0 0 0)))
        (local.set $s6 (f32x4.max (local.get $s6) (v128.const i32x4 0 0 0 0)))
        (local.set $s7 (f32x4.max (local.get $s7) (v128.const i32x4 0 0 0 0)))
      ))

      (v128.store offset=0 align=4 (local.get $output) (local.get $s0))
      (v128.store offset=16 align=4 (local.get $output) (local.get $s1))
      (v128.store offset=32 align=4 (local.get $output) (local.get $s2))
      (v128.store offset=48 align=4 (local.get $output) (local.get $s3))
      (v128.store offset=64 align=4 (local.get $output) (local.get $s4))
      (v128.store offset=80 align=4 (local.get $output) (local.get $s5))
      (v128.store offset=96 align=4 (local.get $output) (local.get $s6))
      (v128.store offset=112 align=4 (local.get $output) (local.get $s7))
      (local.set $output (i32.add (local.get $output) (i32.const 128)))
      (local.set $bias (i32.add (local.get $bias) (i32.const 128)))
      (local.set $groups (i32.sub (local.get $groups) (i32.const 1)))
      (br_if $each_group (local.get $groups)))))
